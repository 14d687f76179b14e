"""Our frozen dataclasses beside those of the standard library, which they are to equal."""

from __future__ import annotations

import copy
import dataclasses
import importlib
import inspect
import pickle
import pkgutil
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, Final

import pytest

import coinapi_ws
from coinapi_ws import values

Make = Callable[..., Any]


def declared(make: Make, **options: Any) -> tuple[type[Any], type[Any]]:
    """Return two classes that are declared alike: one with fields, one with a method of its own for two things."""

    @make(frozen=True, slots=True, **options)
    class Point:
        """A point."""

        scale: ClassVar[int] = 3
        x: float
        secret: str = dataclasses.field(repr=False)
        name: str | None = None
        tags: tuple[str, ...] = dataclasses.field(default=("a",))

    @make(frozen=True, slots=True, **options)
    class Checked:
        """A number that is checked, and prints itself."""

        number: int

        def __post_init__(self) -> None:
            if self.number < 0:
                raise ValueError("negative")

        def __repr__(self) -> str:
            return f"<{self.number}>"

    return Point, Checked


KEYWORDS: Final = {"x": 1.5, "secret": "s", "name": "n"}


@pytest.fixture(params=[{}, {"kw_only": True}], ids=["positional", "keywords"])
def options(request: pytest.FixtureRequest) -> dict[str, Any]:
    """How the classes are declared beside being frozen, with slots."""
    return dict(request.param)


@pytest.fixture(params=[values.dataclass, dataclasses.dataclass], ids=["ours", "stdlib"])
def make(request: pytest.FixtureRequest) -> Make:
    """The decorator; what is said of ours holds for the standard library's as well."""
    found: Make = request.param
    return found


def outcome(call: Callable[[], object]) -> object:
    """Return what a call returns, or the type and the text of what it raises."""
    try:
        return call()
    except (TypeError, ValueError) as error:
        return type(error), str(error)


def test_they_describe_themselves_alike(options: dict[str, Any]) -> None:
    ours, theirs = (declared(make, **options)[0] for make in (values.dataclass, dataclasses.dataclass))
    assert inspect.signature(ours) == inspect.signature(theirs)
    assert str(inspect.signature(ours)) == str(inspect.signature(theirs))
    assert ours.__slots__ == theirs.__slots__
    assert ours.__match_args__ == theirs.__match_args__
    assert ours.__doc__ == theirs.__doc__
    assert ours.__init__.__qualname__ == theirs.__init__.__qualname__
    assert [repr(field) for field in dataclasses.fields(ours)] == [repr(field) for field in dataclasses.fields(theirs)]
    assert repr(ours(**KEYWORDS)) == repr(theirs(**KEYWORDS))
    assert hash(ours(**KEYWORDS)) == hash(theirs(**KEYWORDS))
    assert dataclasses.asdict(ours(**KEYWORDS)) == dataclasses.asdict(theirs(**KEYWORDS))


@pytest.mark.parametrize(
    "arguments",
    [
        ((), KEYWORDS),
        ((), {"x": 1}),
        ((), {**KEYWORDS, "colour": "red"}),
        ((1.5, "s"), {}),
        ((1.5, "s"), {"x": 1}),
        ((1.5, "s", "n", ()), {}),
        ((1, 2, 3, 4, 5), {}),
    ],
)
def test_they_take_the_same_arguments(
    options: dict[str, Any], arguments: tuple[tuple[Any, ...], dict[str, Any]]
) -> None:
    positional, keywords = arguments
    ours, theirs = (
        outcome(lambda make=make: dataclasses.astuple(declared(make, **options)[0](*positional, **keywords)))  # type: ignore[misc]
        for make in (values.dataclass, dataclasses.dataclass)
    )
    assert ours == theirs


def test_equal_content_of_one_class_is_equal(make: Make, options: dict[str, Any]) -> None:
    point, checked = declared(make, **options)
    first = point(**KEYWORDS)
    assert first == point(**KEYWORDS)
    assert first != point(**{**KEYWORDS, "secret": "other"})
    assert len({first, point(**KEYWORDS), point(**{**KEYWORDS, "x": 2.0})}) == 2
    assert first != declared(make, **options)[0](**KEYWORDS)
    assert first.__eq__(checked(number=1)) is NotImplemented


def test_nothing_can_be_set_or_deleted(options: dict[str, Any]) -> None:
    # Of what is no field, and of plain subclasses, the standard library raises a TypeError by mistake (3.10, 3.11).
    point = declared(values.dataclass, **options)[0](**KEYWORDS)
    for name in ("x", "other"):
        with pytest.raises(dataclasses.FrozenInstanceError, match=f"^cannot assign to field '{name}'$"):
            setattr(point, name, 1)
        with pytest.raises(dataclasses.FrozenInstanceError, match=f"^cannot delete field '{name}'$"):
            delattr(point, name)
    assert not hasattr(point, "__dict__")


def test_what_the_class_defines_itself_stays(make: Make, options: dict[str, Any]) -> None:
    checked = declared(make, **options)[1]
    assert repr(checked(number=3)) == "<3>"
    with pytest.raises(ValueError, match="negative"):
        checked(number=-1)
    with pytest.raises(ValueError, match="negative"):
        dataclasses.replace(checked(number=3), number=-1)


def test_copies(make: Make, options: dict[str, Any]) -> None:
    point = declared(make, **options)[0](**KEYWORDS)
    assert copy.copy(point) == copy.deepcopy(point) == dataclasses.replace(point) == point
    assert dataclasses.replace(point, x=2).x == 2


def test_state_is_that_of_the_standard_library(options: dict[str, Any]) -> None:
    # So what one version of this package pickled another one reads.
    ours, theirs = (declared(make, **options)[0](**KEYWORDS) for make in (values.dataclass, dataclasses.dataclass))
    assert ours.__reduce_ex__(2)[2] == theirs.__reduce_ex__(2)[2]
    ours.__setstate__([2.5, "t", None, ()])
    assert dataclasses.astuple(ours) == (2.5, "t", None, ())


def test_plain_subclass_may_have_more(options: dict[str, Any]) -> None:
    class Named(declared(values.dataclass, **options)[0]):  # type: ignore[misc]
        pass

    named = Named(**KEYWORDS)
    named.colour = "red"
    assert (named.colour, named.x) == ("red", 1.5)
    del named.colour
    with pytest.raises(dataclasses.FrozenInstanceError):
        named.x = 2
    assert named != Named.__base__(**KEYWORDS)


@pytest.mark.parametrize("derive", [values.dataclass, dataclasses.dataclass], ids=["by ours", "by stdlib"])
def test_frozen_subclass_has_the_fields_of_both(make: Make, derive: Make) -> None:
    @derive(frozen=True, slots=True, kw_only=True)
    class Coloured(declared(make, kw_only=True)[0]):  # type: ignore[misc]
        """With a colour."""

        colour: str

    red = Coloured(**KEYWORDS, colour="red")
    assert red == Coloured(**KEYWORDS, colour="red") != Coloured(**KEYWORDS, colour="blue")
    assert repr(red).endswith("Coloured(x=1.5, name='n', tags=('a',), colour='red')")
    with pytest.raises(dataclasses.FrozenInstanceError):
        red.colour = "blue"
    assert copy.copy(red) == red


def test_value_that_holds_itself_prints(make: Make) -> None:
    point = declared(make)[0](1.0, "s", name=[])
    point.name.append(point)
    assert repr(point).endswith("Point(x=1.0, name=[...], tags=('a',))")


def frozen_classes() -> Iterator[type[Any]]:
    """Yield all frozen dataclasses of the package."""
    for module in pkgutil.walk_packages(coinapi_ws.__path__, "coinapi_ws."):
        if module.name in ("coinapi_ws.__main__", "coinapi_ws.structs"):  # a program; needs an extra
            continue
        for found in vars(importlib.import_module(module.name)).values():
            params = getattr(found, "__dataclass_params__", None)
            if isinstance(found, type) and found.__module__ == module.name and params is not None and params.frozen:
                yield found


def test_no_declaration_has_what_ours_do_not_know() -> None:
    known = {"default": None, "default_factory": dataclasses.MISSING, "init": True, "compare": True, "hash": None}
    ours = [found for found in frozen_classes() if vars(found).get("__eq__") is values._SHARED["__eq__"]]
    assert len(ours) > 25
    for found in ours:
        assert found.__doc__, "the standard library would make one"
        for field in dataclasses.fields(found):
            assert {**{name: getattr(field, name) for name in known}, "default": None} == known


def test_pickles() -> None:
    event = coinapi_ws.Live(received_ns=7)
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(event, protocol)) == event
