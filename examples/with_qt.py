"""Qt (PySide6): a window with the last message; the event loop watches the connection. Argument: an endpoint's URL."""

import os
import sys
import time
from socket import AF_INET, AF_INET6

from PySide6.QtCore import SLOT, QSocketNotifier, QTimer, Slot
from PySide6.QtNetwork import QHostInfo
from PySide6.QtWidgets import QApplication, QLabel

from coinapi_ws import Options, Scope, Secret, SelectorConnection, Subscription, endpoint_from


class Window(QLabel):
    @Slot(QHostInfo)
    def start(self, found: QHostInfo) -> None:
        ips = [address.toString() for address in found.addresses()]
        self.addresses = [(AF_INET6 if ":" in ip else AF_INET, (ip, options.endpoint.port)) for ip in ips]
        self.generation, self.notifiers, self.timer = 0, [], QTimer(self, singleShot=True, timeout=self.work)
        connection.start()
        self.work()

    def work(self, *_: object) -> None:
        """Let the connection work. It may close its descriptor, so nothing watches it meanwhile."""
        self.timer.stop()
        for notifier in self.notifiers:
            notifier.setEnabled(False)
        for item in connection.handle_read() + connection.handle_write() + connection.handle_timeout():
            print(item)  # messages and events, Disconnected last
            self.setText(str(item))
        if connection.stats().messages >= 10:
            connection.close()  # goes on until the server has answered
        if connection.disconnected is not None:
            app.quit()
        elif connection.fd_generation != self.generation:  # another socket, perhaps with the same number
            self.generation, descriptor = connection.fd_generation, connection.fileno()
            kinds = QSocketNotifier.Type.Read, QSocketNotifier.Type.Write
            self.notifiers = [QSocketNotifier(descriptor, kind, self, activated=self.work) for kind in kinds]
        for notifier, is_wanted in zip(self.notifiers, (connection.want_read, connection.want_write), strict=False):
            notifier.setEnabled(is_wanted())
        if (due := connection.next_timeout()) is not None:
            self.timer.start(max(0, int((due - time.monotonic()) * 1000) + 1))


key = os.environ.get("COINAPI_API_KEY")
options = Options(endpoint=endpoint_from(sys.argv[1]), api_key=Secret(key) if key else None, proxy=None)
scope = Scope(Subscription(["trade"], symbol_ids=["COINBASE_SPOT_BTC_USD$", "COINBASE_SPOT_ETH_USD$"]))
connection = SelectorConnection(options, scope, resolve=lambda *_: window.addresses)
app = QApplication(sys.argv[:1])
sys.excepthook = lambda *error: (sys.__excepthook__(*error), app.exit(1))  # where a slot raises, Qt would go on
window = Window(wordWrap=True, visible=True)
QHostInfo.lookupHost(options.endpoint.host, window, SLOT("start(QHostInfo)"))  # of a plain callable no error is heard
status = app.exec()
connection.abandon()  # nothing is left to do, unless the window was closed or something was raised
error = connection.disconnected.error()
sys.exit(str(error) if error else status)
