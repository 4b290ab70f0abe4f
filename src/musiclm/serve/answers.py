"""What the service says, as JSON. OpenAPI is made from these."""

from typing import Any, Literal

from pydantic import BaseModel

from musiclm.serve.jobs import Job, Jobs
from musiclm.serve.store import Entry


class Problem(BaseModel):
    """What was wrong, in one line that says what would do."""

    detail: str


class TakeAnswer(BaseModel):
    """A take, or an upload."""

    id: str
    kind: Literal["take", "upload"]
    name: str
    kept: bool
    verb: str
    parent: str | None
    prompt: str | None
    duration_s: float
    created_s: float
    made_from_s: float  # of its sound, what is new begins; of an upload nothing is
    made_to_s: float
    about: dict[str, Any]

    @classmethod
    def of(cls, entry: Entry) -> "TakeAnswer":
        return cls(**{name: getattr(entry, name) for name in cls.model_fields})


class JobAnswer(BaseModel):
    """A piece that waits, is being made, or was."""

    id: str
    verb: str
    state: Literal["waiting", "running", "done", "failed", "cancelled"]
    request: dict[str, Any]
    ahead: int  # that wait before it
    share: float  # of the work that is done, 0 to 1
    made_s: float  # of sound that can be listened to
    duration_s: float | None  # of the sound when it is whole; None until work on it has begun
    left_s: float | None  # until it is whole
    taken_s: float | None
    understood: str | None  # tempo and key, as they were read from the request
    take: str | None  # what was made, once it is done
    error: str | None

    @classmethod
    def of(cls, job: Job, jobs: Jobs) -> "JobAnswer":
        rate, piece = jobs.context.model.sample_rate_hz, job.piece
        about = None if piece is None else piece.about
        left_s = job.left_s()
        return cls(
            id=job.id,
            verb=job.verb,
            state=job.state,
            request=job.asked.model_dump(exclude_none=True),
            ahead=jobs.ahead(job),
            share=round(1.0 if job.state == "done" else job.share(), 4),
            made_s=job.made_samples / rate,
            duration_s=None if piece is None else piece.num_samples / rate,
            left_s=None if left_s is None else round(left_s, 2),
            taken_s=round(job.taken_s, 3) if job.ended else None,
            understood=None
            if about is None
            else jobs.context.model.understood(about.config.steer, about.story or about.prompt or ""),
            take=job.take,
            error=job.error or None,
        )


class VerbAnswer(BaseModel):
    name: str
    summary: str


class Limits(BaseModel):
    duration_s: float
    sound_s: float
    upload_bytes: int
    prompt_characters: int
    capacity: int
    requests_per_minute: int


class AboutAnswer(BaseModel):
    """What there is."""

    version: str
    bundle: str
    bundle_hash: str
    sample_rate_hz: int
    can_steer: bool  # whether a tempo and a key may be asked for
    can_follow: bool  # whether a melody may be given
    verbs: list[VerbAnswer]
    limits: Limits


class Health(BaseModel):
    status: Literal["ok"]
    version: str
    bundle: str
    running: int
    waiting: int
    capacity: int
