"""What names one device, camera or zone among all stores."""

DeviceKey = tuple[str, str]
"""Store and device."""


CameraKey = tuple[str, str, str]
"""Store, device and camera."""


ZoneKey = tuple[str, str]
"""Store and zone."""
