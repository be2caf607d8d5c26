"""Keeps asking for the right to act on stores, and says when it comes or goes."""

import logging
import threading

from controller.errors import TransientError
from controller.ports import Leadership

log = logging.getLogger(__name__)

RENEW_S = 1.0


class Leader:
    def __init__(self, leadership: Leadership) -> None:
        self._leadership = leadership
        self._told: str | None = None

    def run(self, stop: threading.Event) -> None:
        try:
            while not stop.is_set():
                try:
                    self._leadership.renew()
                    self._tell("leads" if self._leadership.held() else "stands by: another controller leads")
                except TransientError as error:
                    self._tell(f"does not act on stores: {error}")
                stop.wait(RENEW_S)
        finally:
            self._leadership.release()

    def _tell(self, words: str) -> None:
        if words != self._told:
            self._told = words
            log.info("this controller %s", words)
