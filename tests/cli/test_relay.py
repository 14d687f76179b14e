"""`coinapi-ws relay` with a real Redis."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis_servers import RedisProcess

from coinapi_ws import ConnectionGap, Message
from coinapi_ws.relay import RedisReader
from coinapi_ws.sharding import shard_of

SYMBOLS = ("COINBASE_SPOT_BTC_USD", "KRAKEN_SPOT_ETH_USD", "BITSTAMP_SPOT_BTC_USD")
ALL = [word for symbol in SYMBOLS for word in ("--symbol", f"{symbol}$")]


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[RedisProcess]:
    monkeypatch.delenv("COINAPI_WS_REDIS", raising=False)
    directory = tmp_path / "redis"
    directory.mkdir()
    with RedisProcess(directory) as process:
        yield process


def items_of(server: RedisProcess, messages: int, **options: Any) -> list[Any]:
    """What a reader gives until it gave so many messages, and nothing comes after them."""
    with RedisReader(server.url, group="test", **options) as reader:
        items: list[Any] = []
        while sum(isinstance(item, Message) for item in items) < messages:
            items.append(reader.recv(timeout=30))
        with pytest.raises(TimeoutError):
            reader.recv(timeout=0.1)
        return items


def published_by(result: Any) -> int:
    """The number in the summary, which says too that nothing was given up."""
    (summary,) = [line for line in result.err.splitlines() if "published" in line]
    assert summary.endswith(" gaps told, 0 given up")
    return int(summary.split()[1].replace(",", ""))


def test_it_publishes_until_the_count(run: Callable[..., Any], server: RedisProcess) -> None:
    result = run("relay", "trade", "quote", *ALL, "--simulate", "--count", 50, "--redis", server.url)
    assert result.code == 0
    assert result.out == ""
    published = published_by(result)
    assert published >= 50
    assert {item.type for item in items_of(server, published) if isinstance(item, Message)} == {"trade", "quote"}


def test_a_redis_that_is_away_and_comes_back_is_told(run: Callable[..., Any], server: RedisProcess) -> None:
    server.kill()
    later = threading.Timer(0.5, server.start)
    later.start()
    common = ("relay", "trade", "quote", *ALL, "--simulate", "--redis", server.url)
    result = run(*common, "--count", 20, "--duration", 30)
    later.join()
    assert result.code == 0
    away, back = (line for line in result.err.splitlines() if "Redis" in line)
    assert away.startswith("coinapi-ws: Redis is away: ConnectionError")
    assert back.startswith("coinapi-ws: Redis is back after ")
    assert published_by(result) >= 20


def test_a_shard_has_its_symbols_alone(
    run: Callable[..., Any], server: RedisProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COINAPI_WS_REDIS", server.url)
    number = shard_of(SYMBOLS[0], 2)
    common = ("relay", "trade", "quote", *ALL, "--simulate", "--count", 50, "--prefix", "other", "--streams", 2)
    result = run(*common, "--shard", f"{number + 1}/2")
    assert result.code == 0
    items = items_of(server, published_by(result), prefix="other", streams=2)
    found = {item.symbol_id for item in items if isinstance(item, Message)}
    assert found == {symbol for symbol in SYMBOLS if shard_of(symbol, 2) == number}


def test_an_empty_shard_has_nothing_to_do(run: Callable[..., Any], server: RedisProcess) -> None:
    number = 2 - shard_of(SYMBOLS[0], 2)
    common = ("relay", "trade", "--symbol", f"{SYMBOLS[0]}$", "--simulate", "--redis", server.url)
    result = run(*common, "--shard", f"{number}/2")
    assert (result.code, result.out) == (0, "")
    assert "nothing to do" in result.err


def test_a_recording_is_published_once(run: Callable[..., Any], server: RedisProcess, tmp_path: Path) -> None:
    path = tmp_path / "trades.jsonl"
    frames = [{"price": n, "symbol_id": SYMBOLS[0], "sequence": n, "type": "trade"} for n in range(1, 101)]
    lines = [json.dumps({"received_ns": 1, "frame": json.dumps(frame)}) for frame in frames]
    path.write_text("\n".join(lines) + "\n")
    result = run("relay", "trade", *ALL, "--recording", path, "--redis", server.url, "--max-length", 1000)
    assert result.code == 0, result.err
    items = items_of(server, 100)
    assert [item.sequence for item in items if isinstance(item, Message)] == list(range(1, 101))
    assert not [item for item in items if isinstance(item, ConnectionGap)]


def test_another_number_of_streams_is_told(run: Callable[..., Any], server: RedisProcess) -> None:
    common = ("relay", "trade", *ALL, "--simulate", "--count", 1, "--redis", server.url)
    assert run(*common).code == 0
    result = run(*common, "--streams", 2)
    assert result.code == 2
    assert "has 16 streams; write --streams 16" in result.err


def test_an_interrupt_closes_it(start: Callable[..., Any], server: RedisProcess) -> None:
    command = start("relay", "trade", *ALL, "--simulate", "--redis", server.url)
    with RedisReader(server.url, group="test") as reader:
        assert reader.recv(timeout=30)
    command.interrupt()
    result = command.result()
    assert result.code == 130
    assert "published" in result.err
    assert "Traceback" not in result.err


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((), "--redis URL"),
        (("--redis", "nothing"), "redis://127.0.0.1:6379/0"),
        (("--redis", "redis://x", "--shard", "3/2"), "1/8"),
        (("--redis", "redis://x", "--shard", "0/2"), "1/8"),
        (("--redis", "redis://x", "--shard", "2"), "1/8"),
        (("--redis", "redis://x", "--symbol", "KRAKEN_", "--shard", "1/2"), "each of them: --symbol 'COINBASE"),
        (("--redis", "redis://x", "--max-age", "5", "--max-length", "5"), "not allowed with"),
    ],
)
def test_wrong_usage_is_told(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], text: str
) -> None:
    monkeypatch.delenv("COINAPI_WS_REDIS", raising=False)
    result = run("relay", "trade", *ALL, "--simulate", *arguments)
    assert result.code == 2
    assert text in result.err


def test_a_wrong_password_is_told_without_it(
    run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, canary_key: str
) -> None:
    with RedisProcess(tmp_path, password=canary_key[::-1]) as server:
        monkeypatch.setenv("COINAPI_WS_REDIS", f"redis://:{canary_key}@127.0.0.1:{server.port}/0")
        result = run("relay", "trade", *ALL, "--simulate")
    assert result.code == 1
    assert "Redis refused: AuthenticationError" in result.err
    assert "check --redis" in result.err


def test_a_server_that_is_not_there_is_told_at_once(run: Callable[..., Any], server: RedisProcess) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    result = run("relay", "trade", *ALL, "--endpoint", f"ws://127.0.0.1:{port}", "--redis", server.url)
    assert result.code == 1
    assert "error: " in result.err
