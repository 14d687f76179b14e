"""Tkinter: a window with the last message; the main loop watches the connection. Argument: an endpoint's URL."""

import os
import sys
import time
import tkinter

from coinapi_ws import Options, Scope, Secret, SelectorConnection, Subscription, endpoint_from


class Window(tkinter.Tk):
    def __init__(self, connection: SelectorConnection) -> None:
        super().__init__()
        self.connection, self.descriptor, self.timer = connection, None, None
        self.label = tkinter.Label(self, wraplength=600)
        self.label.pack()
        self.work()

    def work(self, *_: object) -> None:
        """Let the connection work. It may close its descriptor, so nothing stays registered meanwhile."""
        if self.descriptor is not None:
            self.tk.deletefilehandler(self.descriptor)
        if self.timer is not None:
            self.after_cancel(self.timer)
        connection = self.connection
        for item in connection.handle_read() + connection.handle_write() + connection.handle_timeout():
            print(item)  # messages and events, Disconnected last
            self.label["text"] = item
        if connection.stats().messages >= 10:
            connection.close()  # goes on until the server has answered
        if connection.disconnected is not None:
            return self.destroy()
        mask = tkinter.READABLE * connection.want_read() | tkinter.WRITABLE * connection.want_write()
        self.descriptor = connection.fileno() if mask else None
        if mask:
            self.tk.createfilehandler(self.descriptor, mask, self.work)
        due = connection.next_timeout()
        wait = None if due is None else max(0, int((due - time.monotonic()) * 1000) + 1)
        self.timer = None if due is None else self.after(wait, self.work)

    def report_callback_exception(self, *error: object) -> None:
        raise error[1]  # out of mainloop(), where Tkinter would print it and go on


key = os.environ.get("COINAPI_API_KEY")
options = Options(endpoint=endpoint_from(sys.argv[1]), api_key=Secret(key) if key else None)
scope = Scope(Subscription(["trade"], symbol_ids=["COINBASE_SPOT_BTC_USD$", "COINBASE_SPOT_ETH_USD$"]))
connection = SelectorConnection(options, scope)
try:
    connection.start()  # resolves the name, which may block, before there is a window
    Window(connection).mainloop()
finally:
    connection.abandon()  # nothing is left to do, unless the window was closed or something raised
error = connection.disconnected.error()
sys.exit(str(error) if error else None)
