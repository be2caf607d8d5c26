"""H.264 for simulated cameras, over RTSP or into files: a program run by the system's Python.

GStreamer's RTSP server and its Python bindings belong to the distribution (Debian:
``gir1.2-gst-rtsp-server-1.0 python3-gi gstreamer1.0-plugins-base -good -ugly``), not to a virtual
environment, so this file needs only the standard library and ``gi``; ``camera_sims.rtsp`` starts it
and feeds it. It ends when its standard input does, so it cannot outlive whoever started it.

Standard input: one line of JSON, ``{"host", "fps", "crf", "cameras", "username", "password"}``, then
messages: a header (``HEADER``) and, unless the message repeats the last key picture, one I420 picture
of ``width * height * 3 / 2`` bytes.
Standard output, one JSON object a line: ``{"event": "ready", "port": N}``, then
``{"event": "watched", "camera": INDEX, "watched": BOOL}`` whenever the first client comes or the
last one goes.

A camera is encoded only while somebody watches it, once however many do. Encoding and serving are
separate pipelines, so that what is served can be the same encoded picture again (a frozen camera) or
damaged bytes (a bad encoder or link).

With ``{"files": [...]}`` instead of ``host``, each camera's pictures go into a Matroska file, one
picture every ``1 / fps`` s whenever they arrive; the program exits with 0 once all are complete.
"""

import json
import os
import random
import struct
import sys
import threading
from typing import Any, BinaryIO

HEADER = struct.Struct("<HHHBxI")
"""Camera index, width and height in pixels, flags, length of the picture in bytes."""
FRESH, DAMAGE, REPEAT = 1, 2, 4
"""Flags: start with a new key picture; damage the encoded bytes; send the last key picture again."""

ENCODED = "video/x-h264,stream-format=byte-stream,alignment=au"
LIVE = "is-live=true do-timestamp=true format=time leaky-type=downstream"
MISSING = (
    "simulated RTSP cameras need GStreamer's RTSP server for the system's Python: "
    "apt-get install gir1.2-gst-rtsp-server-1.0 python3-gi "
    "gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-ugly"
)

try:
    import gi  # type: ignore[import-not-found,import-untyped,unused-ignore]

    gi.require_version("Gst", "1.0")
    gi.require_version("GstRtsp", "1.0")
    gi.require_version("GstRtspServer", "1.0")
    from gi.repository import (  # type: ignore[import-not-found,import-untyped,unused-ignore]
        GLib,
        Gst,
        GstRtsp,
        GstRtspServer,
    )
except (ImportError, ValueError) as error:
    if __name__ == "__main__":
        sys.exit(f"{MISSING} ({error})")


def encoder_launch(fps: float, crf: int) -> str:
    """The encoder: no delay, a key picture a second, one thread, quality rather than rate held constant."""
    key_interval = max(1, round(fps))
    return (
        f"x264enc speed-preset=ultrafast tune=zerolatency key-int-max={key_interval} bframes=0 threads=1 "
        f"pass=qual quantizer={crf} ! {ENCODED},profile=constrained-baseline"
    )


def damage(data: bytes, rng: random.Random) -> bytes:
    """``data`` (one access unit) with some bytes of its last slice replaced: one in 40, 400 or 4000.

    Much damage makes a decoder give up on the picture and repeat what it had before, little makes it
    show rubbish until the next key picture; a bad line does both. Parameter sets stay whole, as they
    mostly do where few of many packets are damaged.
    """
    broken = bytearray(data)
    start = data.rfind(b"\x00\x00\x01") + 12
    span = len(data) - start
    for _ in range(1 + span // rng.choice((40, 400, 4000)) if span > 0 else 0):
        broken[start + rng.randrange(span)] = rng.randrange(256)
    return bytes(broken)


class CameraStream:
    """One mount point: encodes pictures while watched and hands them to the shared media."""

    def __init__(self, index: int, fps: float, crf: int, tell: Any) -> None:
        self._index = index
        self._fps = fps
        self._crf = crf
        self._tell = tell
        self._rng = random.Random(index)
        self._lock = threading.Lock()
        self._media: Any = None
        self._output: Any = None
        self._encoder: Any = None
        self._input: Any = None
        self._size = (0, 0)
        self._damage = False
        self._key_picture = b""
        self._take_key = False

    def configure(self, _factory: Any, media: Any) -> None:
        """A first client has come: ``media`` is the pipeline that serves all clients from now on."""
        media.connect("unprepared", self._unprepared)
        with self._lock:
            self._stop_encoder()
            self._media = media
            self._output = media.get_element().get_by_name("source")
        self._tell(event="watched", camera=self._index, watched=True)

    def _unprepared(self, media: Any) -> None:
        with self._lock:
            if media is not self._media:
                return
            self._media = self._output = None
            self._stop_encoder()
        self._tell(event="watched", camera=self._index, watched=False)

    def picture(self, size: tuple[int, int], flags: int, data: bytes) -> None:
        with self._lock:
            if self._output is None:
                return
            self._damage = bool(flags & DAMAGE)
            if flags & REPEAT:
                if self._key_picture:
                    self._serve(self._key_picture)
                return
            if self._encoder is None or flags & FRESH or size != self._size:
                self._start_encoder(size)
            self._input.emit("push-buffer", Gst.Buffer.new_wrapped(data))

    def _start_encoder(self, size: tuple[int, int]) -> None:
        self._stop_encoder()
        rate = f"{round(self._fps * 100)}/100"
        caps = f"video/x-raw,format=I420,width={size[0]},height={size[1]},framerate={rate}"
        self._encoder = Gst.parse_launch(
            f"appsrc name=input {LIVE} max-buffers=4 max-bytes=0 caps={caps} ! "
            f"{encoder_launch(self._fps, self._crf)} ! "
            "appsink name=output emit-signals=true sync=false"
        )
        self._input = self._encoder.get_by_name("input")
        self._encoder.get_by_name("output").connect("new-sample", self._encoded)
        self._size = size
        self._take_key = True
        self._encoder.set_state(Gst.State.PLAYING)

    def _stop_encoder(self) -> None:
        if self._encoder is not None:
            self._encoder.set_state(Gst.State.NULL)
        self._encoder = self._input = None
        self._key_picture = b""

    def _encoded(self, sink: Any) -> Any:
        buffer = sink.emit("pull-sample").get_buffer()
        data = buffer.extract_dup(0, buffer.get_size())
        if self._take_key:
            self._key_picture, self._take_key = data, False
        output = self._output
        if output is not None:
            self._serve(damage(data, self._rng) if self._damage else data, output)
        return Gst.FlowReturn.OK

    def _serve(self, data: bytes, output: Any = None) -> None:
        (output or self._output).emit("push-buffer", Gst.Buffer.new_wrapped(data))


class Server:
    """The RTSP server on a free port of the loopback address, RTP interleaved in its TCP connection."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._tell_lock = threading.Lock()
        self.cameras = [
            CameraStream(i, settings["fps"], settings["crf"], self.tell)
            for i in range(len(settings["cameras"]))
        ]
        self._server = GstRtspServer.RTSPServer.new()
        self._server.set_address(settings["host"])
        self._server.set_service("0")
        user = settings.get("username")
        if user:
            self._require_password(user, settings["password"])
        mounts = self._server.get_mount_points()
        for path, camera in zip(settings["cameras"], self.cameras, strict=True):
            mounts.add_factory(f"/{path}", self._factory(camera, user))
        if not self._server.attach(None):
            sys.exit(f"the RTSP server cannot listen on {settings['host']}")
        self.tell(event="ready", port=self._server.get_bound_port())

    def _factory(self, camera: CameraStream, user: str | None) -> Any:
        factory = GstRtspServer.RTSPMediaFactory.new()
        factory.set_launch(
            f"( appsrc name=source {LIVE} max-bytes=4000000 caps={ENCODED} ! "
            "h264parse config-interval=-1 ! rtph264pay name=pay0 pt=96 aggregate-mode=zero-latency )"
        )
        factory.set_shared(True)
        factory.set_latency(0)
        factory.set_protocols(GstRtsp.RTSPLowerTrans.TCP)  # so that every byte passes the gate in front
        factory.connect("media-configure", camera.configure)
        if user:
            permissions = GstRtspServer.RTSPPermissions()
            for permission in ("media.factory.access", "media.factory.construct"):
                permissions.add_permission_for_role(user, permission, True)
            factory.set_permissions(permissions)
        return factory

    def _require_password(self, user: str, password: str) -> None:
        token = GstRtspServer.RTSPToken()
        token.set_string("media.factory.role", user)
        auth = GstRtspServer.RTSPAuth.new()
        auth.add_basic(GstRtspServer.RTSPAuth.make_basic(user, password), token)
        self._server.set_auth(auth)

    def tell(self, **message: Any) -> None:
        with self._tell_lock:
            sys.stdout.write(json.dumps(message) + "\n")
            sys.stdout.flush()

    def drop_strangers(self) -> bool:
        """Forget sessions whose client vanished without a goodbye; called every few seconds."""
        self._server.get_session_pool().cleanup()
        return True


class Recorder:
    """One video file. Pictures keep the size of the first."""

    def __init__(self, path: str, fps: float, crf: int) -> None:
        self._path = path
        self._fps = fps
        self._crf = crf
        self._count = 0
        self._pipeline: Any = None
        self._input: Any = None

    def picture(self, size: tuple[int, int], _flags: int, data: bytes) -> None:
        if self._pipeline is None:
            caps = (
                f"video/x-raw,format=I420,width={size[0]},height={size[1]},"
                f"framerate={round(self._fps * 100)}/100"
            )
            self._pipeline = Gst.parse_launch(
                f"appsrc name=input format=time block=true max-bytes=8000000 caps={caps} ! "
                f"{encoder_launch(self._fps, self._crf)} ! h264parse ! matroskamux ! filesink name=file"
            )
            self._pipeline.get_by_name("file").set_property("location", self._path)
            self._input = self._pipeline.get_by_name("input")
            self._pipeline.set_state(Gst.State.PLAYING)
        buffer = Gst.Buffer.new_wrapped(data)
        buffer.pts = round(self._count * Gst.SECOND / self._fps)
        buffer.duration = round(Gst.SECOND / self._fps)
        self._count += 1
        if self._input.emit("push-buffer", buffer) != Gst.FlowReturn.OK:
            sys.exit(f"cannot write {self._path}")

    def finish(self) -> None:
        if self._pipeline is None:
            return
        self._input.emit("end-of-stream")
        wanted = Gst.MessageType.EOS | Gst.MessageType.ERROR
        message = self._pipeline.get_bus().timed_pop_filtered(Gst.CLOCK_TIME_NONE, wanted)
        if message.type == Gst.MessageType.ERROR:
            sys.exit(f"cannot write {self._path}: {message.parse_error()[0].message}")
        self._pipeline.set_state(Gst.State.NULL)


def feed(cameras: list[Any], source: BinaryIO) -> None:
    """Hand on pictures until ``source`` ends."""
    while len(header := source.read(HEADER.size)) == HEADER.size:
        index, width, height, flags, length = HEADER.unpack(header)
        data = source.read(length)
        if len(data) < length:
            return
        cameras[index].picture((width, height), flags, data)


def serve(settings: dict[str, Any]) -> None:
    loop = GLib.MainLoop()
    server = Server(settings)
    GLib.timeout_add_seconds(5, server.drop_strangers)
    threading.Thread(target=loop.run, daemon=True).start()
    feed(server.cameras, sys.stdin.buffer)


def record(settings: dict[str, Any]) -> None:
    recorders = [Recorder(path, settings["fps"], settings["crf"]) for path in settings["files"]]
    feed(recorders, sys.stdin.buffer)
    for recorder in recorders:
        recorder.finish()


def main() -> None:
    settings = json.loads(sys.stdin.buffer.readline())
    Gst.init(None)
    if Gst.ElementFactory.find("x264enc") is None or Gst.ElementFactory.find("rtph264pay") is None:
        sys.exit(MISSING)
    if "files" in settings:
        record(settings)
    else:
        serve(settings)
    sys.stdout.flush()
    os._exit(0)  # GStreamer's threads and sockets need no farewell


if __name__ == "__main__":
    main()
