"""Which of several kinds of answer somebody wants, by the header Accept (RFC 9110, section 12.5.1)."""

from collections.abc import Sequence

# what may be asked for -> suffix of the file it would be
AUDIO = {
    "audio/wav": ".wav",
    "audio/x-wav": ".wav",
    "audio/wave": ".wav",
    "audio/flac": ".flac",
    "audio/x-flac": ".flac",
    "audio/ogg": ".opus",
    "audio/opus": ".opus",
}
MEDIA_TYPES = {
    ".wav": "audio/wav",
    ".flac": "audio/flac",
    ".opus": "audio/ogg",
    ".ogg": "audio/ogg",
    ".mp3": "audio/mpeg",
    ".take": "application/octet-stream",
}
JSON = "application/json"


def chosen(header: str | None, offered: Sequence[str]) -> str | None:
    """The one of `offered` that is wanted most, the first of equals; None if none is wanted."""
    best, best_weight = None, 0.0
    ranges = [_range(part) for part in (header or "*/*").split(",")]
    for media_type in offered:
        major = media_type.split("/")[0]
        matching = [
            (len(pattern) if pattern == media_type else pattern.count(major), weight)
            for pattern, weight in ranges
            if pattern in (media_type, f"{major}/*", "*/*")
        ]
        weight = max(matching)[1] if matching else 0.0  # what names it most exactly counts
        if weight > best_weight:
            best, best_weight = media_type, weight
    return best


def _range(text: str) -> tuple[str, float]:
    pattern, *parameters = (part.strip().lower() for part in text.split(";"))
    weight = 1.0
    for parameter in parameters:
        if parameter.startswith("q="):
            try:
                weight = min(1.0, max(0.0, float(parameter[2:])))
            except ValueError:
                weight = 0.0
    return pattern, weight
