"""The service: routes over verbs, jobs and takes."""

import asyncio
import contextlib
import os
import tempfile
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import anyio
import anyio.to_thread
from fastapi import Depends, FastAPI, HTTPException, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent
from fastapi.staticfiles import StaticFiles
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, Field
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException as StarletteError

from musiclm import __version__
from musiclm.core.audio import write_blocks
from musiclm.core.encoder import StreamEncoder
from musiclm.generate.checks import MAX_PROMPT_CHARACTERS
from musiclm.generate.music import tags_of
from musiclm.generate.session import MusicLM
from musiclm.generate.take import SUFFIX, load_take
from musiclm.serve import uploads
from musiclm.serve.accept import AUDIO, JSON, MEDIA_TYPES, chosen
from musiclm.serve.answers import AboutAnswer, Health, JobAnswer, Limits, Problem, TakeAnswer, VerbAnswer
from musiclm.serve.guard import COOKIE, Guard, cookie_of
from musiclm.serve.jobs import Busy, Job, Jobs
from musiclm.serve.metrics import Metrics
from musiclm.serve.settings import Settings
from musiclm.serve.store import MAX_NAME_CHARACTERS, FullError, NoSuchTake, Store
from musiclm.serve.verbs import VERBS, Context

STUDIO = Path(__file__).parent / "studio"
ANSWERED_WITHIN_S = 0.25  # what fails sooner is in the status, what fails later breaks the stream off
EVENTS_S = 0.2  # between two events of one job
MOST_UPLOADS = 4  # at a time
_READ_SAMPLES = 1 << 15  # that are encoded at a time

DESCRIPTION = """Text to music. Each verb is one POST, answered with sound while it is being made (WAV, FLAC or Opus
by the header Accept), or, with `Accept: application/json`, with a job: its events, its sound and the take that it
becomes have addresses of their own. The same seed gives the same bytes as on the command line."""
POLICY = "; ".join(
    (
        "default-src 'self'",
        "style-src 'self' 'unsafe-inline'",  # the waveform has a style of its own
        "media-src 'self' blob:",
        "img-src 'self' data: blob:",
        "worker-src 'self' blob:",
        "frame-ancestors 'none'",
        "base-uri 'none'",
        "form-action 'self'",
    )
)
Id = Annotated[str, Field(pattern="^[0-9a-f]{16}$")]
SoundSuffix = Literal["wav", "flac", "opus", "ogg", "mp3"]


class Change(BaseModel):
    name: Annotated[str | None, Field(min_length=1, max_length=MAX_NAME_CHARACTERS)] = None
    kept: bool | None = None


class ApiKey(BaseModel):
    key: Annotated[str, Field(max_length=1000)]


class Takes(BaseModel):
    takes: list[TakeAnswer]


class JobList(BaseModel):
    jobs: list[JobAnswer]


MEANINGS = {
    400: "What was sent is no HTTP that can be read.",
    401: "The API key is missing or wrong.",
    403: "The request comes from another site's page.",
    404: "There is no such thing.",
    406: "No kind of answer that is wanted can be given.",
    408: "What was sent came too slowly.",
    409: "It can't be done now.",
    413: "Too much was sent.",
    415: "The upload is no sound.",
    416: "There is no such part.",
    421: "The service does not answer to this name.",
    422: "The request can't be understood or done.",
    429: "Too much is asked for; Retry-After tells when to try again.",
    507: "There is no room.",
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Answers of a route that are a `Problem`, whatever its others are."""
    schema = {"schema": {"$ref": "#/components/schemas/Problem"}}
    return {status: {"description": MEANINGS[status], "content": {JSON: schema}} for status in statuses}


def _describe(app: FastAPI) -> None:
    """OpenAPI with the one kind of error that there is."""
    plain = app.openapi

    def described() -> dict[str, Any]:
        document = plain()
        document["components"]["schemas"]["Problem"] = Problem.model_json_schema()
        return document

    app.openapi = described  # type: ignore[method-assign]


def create_app(model: MusicLM, store: Store, settings: Settings) -> FastAPI:
    """The service of a loaded model, which closes the store when it ends."""
    context = Context(model, store, settings.max_duration_s, settings.max_sound_s)
    metrics = Metrics()

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        jobs = Jobs(context, store, settings.workers, settings.capacity, metrics, asyncio.get_running_loop())
        app.state.jobs, app.state.uploading, app.state.decoding = jobs, 0, anyio.CapacityLimiter(1)
        jobs.start()
        metrics.gauge("jobs_running", "Pieces that are being made.", lambda: jobs.num_running)
        metrics.gauge("jobs_waiting", "Pieces that wait.", lambda: jobs.num_waiting)
        yield
        await anyio.to_thread.run_sync(jobs.close)
        store.close()

    app = FastAPI(
        title="musiclm",
        version=__version__,
        description=DESCRIPTION,
        docs_url=None,  # they would load from another site
        redoc_url=None,
        lifespan=lifespan,
        responses=problems(400, 401, 403, 413, 421, 422, 429),
    )
    app.state.settings, app.state.context, app.state.metrics = settings, context, metrics
    app.add_middleware(Guard, settings=settings, metrics=metrics)
    _add_errors(app, metrics)
    for name, request in VERBS.items():
        _add_verb(app, name, request)
    _add_jobs(app)
    _add_takes(app)
    _add_sounds(app)
    _add_uploads(app)
    _add_service(app)
    _add_studio(app)
    _describe(app)
    return app


# -- errors


def _add_errors(app: FastAPI, metrics: Metrics) -> None:
    @app.exception_handler(RequestValidationError)
    async def wrong(request: Request, error: RequestValidationError) -> JSONResponse:
        return problem(422, "; ".join(_in_words(one) for one in error.errors()))

    @app.exception_handler(StarletteError)
    async def other(request: Request, error: StarletteError) -> JSONResponse:
        return problem(error.status_code, str(error.detail), dict(error.headers or {}))

    @app.exception_handler(NoSuchTake)
    async def missing(request: Request, error: NoSuchTake) -> JSONResponse:
        return problem(404, str(error))

    @app.exception_handler(FullError)
    async def full(request: Request, error: FullError) -> JSONResponse:
        metrics.refused("full")
        return problem(507, str(error))

    @app.exception_handler(ValueError)
    async def impossible(request: Request, error: ValueError) -> JSONResponse:
        return problem(422, str(error))

    @app.exception_handler(Busy)
    async def busy(request: Request, error: Busy) -> JSONResponse:
        metrics.refused("busy")
        return problem(429, str(error), {"retry-after": str(error.retry_after_s)})


def problem(status: int, line: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"detail": " ".join(line.split())[:2000]}, status, headers)


def _in_words(error: Any) -> str:
    """One of FastAPI's errors in words: where it is, and what."""
    place = ".".join(str(part) for part in error["loc"] if part not in ("body", "query", "path"))
    message = str(error["msg"]).removeprefix("Value error, ")
    if error["type"] == "json_invalid":
        message = f"the body is no JSON ({error.get('ctx', {}).get('error', message)})"
        place = ""
    return f"{place}: {message}" if place else message


# -- verbs


def _add_verb(app: FastAPI, name: str, asked_type: Any) -> None:
    """POST /v1/NAME: sound, or a job."""
    audio = {media_type: {"schema": {"type": "string", "format": "binary"}} for media_type in sorted(set(AUDIO))}

    async def ask(request: Request, asked: Any) -> Response:
        wanted = chosen(request.headers.get("accept"), [*AUDIO, JSON])
        if wanted is None:
            raise HTTPException(406, f"nothing here is what Accept names; name one of {', '.join([*AUDIO, JSON])}")
        jobs: Jobs = request.app.state.jobs
        jobs.check_capacity()  # before anything is looked at, so that a refusal costs next to nothing
        job = await anyio.to_thread.run_sync(partial(jobs.submit, asked, streamed=wanted != JSON))
        where = {"location": f"/v1/jobs/{job.id}"}
        if wanted == JSON:
            return JSONResponse(JobAnswer.of(job, jobs).model_dump(), 202, where)
        try:
            await _until(job, lambda: job.made_samples > 0 or job.ended, ANSWERED_WITHIN_S)
        except asyncio.CancelledError:
            jobs.cancel(job)
            raise
        if job.state == "failed":
            raise HTTPException(422, job.error)
        return ForOneClient(partial(jobs.cancel, job), _sound(job, AUDIO[wanted]), media_type=wanted, headers=where)

    ask.__annotations__["asked"] = asked_type
    app.post(
        f"/v1/{name}",
        operation_id=name,
        name=name,
        summary=asked_type.__doc__.split(".")[0] + ".",
        description=f"{asked_type.__doc__}",
        tags=["verbs"],
        response_class=StreamingResponse,
        responses={
            200: {"description": "The sound, as it is made.", "content": audio},
            202: {"model": JobAnswer, "description": "A job."},
            **problems(404, 406, 507),
        },
    )(ask)


async def _until(job: Job, reached: Callable[[], bool], timeout_s: float) -> None:
    end = asyncio.get_running_loop().time() + timeout_s
    while not reached() and (left := end - asyncio.get_running_loop().time()) > 0:
        await job.changed.wait(left)


class ForOneClient(StreamingResponse):
    """Sound that nobody else waits for: when the client leaves, even before the first byte, the work ends."""

    def __init__(self, leave: Callable[[], None], *content: Any, **options: Any) -> None:
        super().__init__(*content, **options)
        self._leave = leave

    async def __call__(self, *connection: Any) -> None:
        try:
            await super().__call__(*connection)
        finally:
            self._leave()


async def _sound(job: Job, suffix: str) -> AsyncIterator[bytes]:
    """A job's sound as a file, from its beginning, as it is made. Raises: RuntimeError if it breaks off, so that the
    connection does."""
    while job.piece is None and not job.ended:
        await job.changed.wait(60)
    if job.piece is None or job.spool is None:
        raise RuntimeError(f"{job.state}: {job.error}")
    piece, spool = job.piece, job.spool
    encoder = await anyio.to_thread.run_sync(
        StreamEncoder, suffix, piece.num_samples, piece.about.sample_rate_hz, piece.tags
    )
    sent = 0
    while True:
        samples = spool.read(sent, _READ_SAMPLES)
        if len(samples):
            sent += len(samples)
            audio = samples.astype("float32") / 32768
            if data := await anyio.to_thread.run_sync(encoder.push, audio):
                yield data
        elif sent == piece.num_samples:
            break
        elif job.ended and spool.num_samples == sent:
            raise RuntimeError(f"{job.state}: {job.error}")
        else:
            await job.changed.wait(60)
    yield await anyio.to_thread.run_sync(encoder.close)
    while not job.ended:  # until its take is kept
        await job.changed.wait(60)


# -- jobs


def _job(request: Request, id: Id) -> Job:
    job: Job | None = request.app.state.jobs.jobs.get(id)
    if job is None:
        raise HTTPException(404, f"there is no job {id}, or it ended long ago")
    return job


JobOf = Annotated[Job, Depends(_job)]


def _add_jobs(app: FastAPI) -> None:
    @app.get("/v1/jobs", tags=["jobs"], operation_id="list_jobs")
    async def list_jobs(request: Request) -> JobList:
        """Pieces that wait, are being made, or ended lately."""
        jobs: Jobs = request.app.state.jobs
        return JobList(jobs=[JobAnswer.of(job, jobs) for job in list(jobs.jobs.values())])

    @app.get("/v1/jobs/{id}", tags=["jobs"], operation_id="job", responses=problems(404))
    async def job(request: Request, job: JobOf) -> JobAnswer:
        """How far one is."""
        return JobAnswer.of(job, request.app.state.jobs)

    @app.delete("/v1/jobs/{id}", tags=["jobs"], operation_id="cancel", responses=problems(404))
    async def cancel(request: Request, job: JobOf) -> JobAnswer:
        """Cancels one; nothing happens to one that has ended."""
        jobs: Jobs = request.app.state.jobs
        await anyio.to_thread.run_sync(jobs.cancel, job)
        return JobAnswer.of(job, jobs)

    @app.get(
        "/v1/jobs/{id}/events",
        tags=["jobs"],
        operation_id="events",
        response_class=EventSourceResponse,
        responses=problems(404),
    )
    async def events(request: Request, job: JobOf) -> AsyncIterator[ServerSentEvent]:
        """Server-sent events: `progress` with a job as data, a few a second, and at last `end` with the same."""
        jobs: Jobs = request.app.state.jobs
        while not job.ended:
            yield ServerSentEvent(event="progress", data=JobAnswer.of(job, jobs))
            await asyncio.sleep(EVENTS_S)
            if not job.ended:
                await job.changed.wait(10)
        yield ServerSentEvent(event="end", data=JobAnswer.of(job, jobs))

    @app.get(
        "/v1/jobs/{id}/sound.{suffix}",
        tags=["jobs"],
        operation_id="job_sound",
        response_class=StreamingResponse,
        responses={200: {"content": {kind: {} for kind in set(AUDIO)}}, **problems(404, 409)},
    )
    async def sound(request: Request, job: JobOf, suffix: Literal["wav", "flac", "opus"]) -> StreamingResponse:
        """Its sound from the beginning, as it is made. The job goes on when the listener leaves."""
        if job.state in ("failed", "cancelled"):
            raise HTTPException(409, f"the job was not done ({job.state}{f': {job.error}' if job.error else ''})")
        stream = _sound(job, f".{suffix}")
        return StreamingResponse(stream, media_type=MEDIA_TYPES[f".{suffix}"])


# -- takes


def _add_takes(app: FastAPI) -> None:
    store: Store = app.state.context.store

    @app.get("/v1/takes", tags=["takes"], operation_id="list_takes")
    def list_takes() -> Takes:
        """All takes and uploads, the oldest first."""
        return Takes(takes=[TakeAnswer.of(entry) for entry in store.all()])

    @app.get("/v1/takes/{id}", tags=["takes"], operation_id="take", responses=problems(404))
    def take(id: Id) -> TakeAnswer:
        """A take, and what made it."""
        return TakeAnswer.of(store.find(id))

    @app.patch("/v1/takes/{id}", tags=["takes"], operation_id="change", responses=problems(404))
    def change(id: Id, change: Change) -> TakeAnswer:
        """Renames a take, or keeps it: what is not kept makes room for new ones, once there are many."""
        return TakeAnswer.of(store.change(id, change.name, change.kept))

    @app.delete("/v1/takes/{id}", tags=["takes"], operation_id="delete", status_code=204, responses=problems(404, 409))
    def delete(id: Id) -> None:
        """Deletes a take that nothing was made from."""
        try:
            store.remove(id)
        except ValueError as error:
            raise HTTPException(409, str(error)) from None


def _add_sounds(app: FastAPI) -> None:
    store: Store = app.state.context.store

    @app.get(
        "/v1/takes/{id}/codes.take",
        tags=["takes"],
        operation_id="codes",
        response_class=FileResponse,
        responses={200: {"content": {"application/octet-stream": {}}}, **problems(404, 416)},
    )
    def codes(id: Id) -> FileResponse:
        """The take as the command line has it: for `musiclm render`, `continue` and `inspect`."""
        entry = store.find(id)
        if entry.kind != "take":
            raise HTTPException(404, f"{id} is an upload, which has no codes; take its sound")
        return FileResponse(store.source(entry), media_type=MEDIA_TYPES[SUFFIX], filename=f"{id}{SUFFIX}")

    @app.get(
        "/v1/takes/{id}/sound.{suffix}",
        tags=["takes"],
        operation_id="sound",
        response_class=FileResponse,
        responses={200: {"content": {kind: {} for kind in set(MEDIA_TYPES.values())}}, **problems(404, 416)},
    )
    def sound(id: Id, suffix: SoundSuffix, download: bool = False) -> FileResponse:
        """Its sound: the bytes that the command line writes; of a MIDI file the notes that are followed.

        download: as a file to be saved, by its name.
        """
        entry = store.find(id)
        path, kind = store.sound(entry), MEDIA_TYPES[f".{suffix}"]
        name = _file_name(entry.name, suffix) if download else None
        if path.suffix == f".{suffix}":
            return FileResponse(path, media_type=kind, filename=name)
        tags = tags_of(load_take(store.source(entry)).about) if entry.kind == "take" else {}
        handle, made = tempfile.mkstemp(dir=store.work, suffix=f".{suffix}")
        os.close(handle)
        try:
            write_blocks(made, store.blocks(entry), tags=tags)
        except BaseException:
            os.unlink(made)
            raise
        return FileResponse(made, media_type=kind, background=BackgroundTask(os.unlink, made), filename=name)


def _add_uploads(app: FastAPI) -> None:
    store: Store = app.state.context.store
    settings: Settings = app.state.settings

    @app.post(
        "/v1/uploads",
        tags=["takes"],
        operation_id="upload",
        status_code=201,
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}},
            }
        },
        responses=problems(408, 415, 507),
    )
    async def upload(
        request: Request, name: Annotated[str, Query(max_length=MAX_NAME_CHARACTERS)] = "upload"
    ) -> TakeAnswer:
        """A sound file to go on from or to follow, as the body: WAV, FLAC, Ogg, MP3 or AIFF; or MIDI, a melody to
        follow. What it is, its bytes tell."""
        state = request.app.state
        await anyio.to_thread.run_sync(store.check_room)
        if state.uploading >= MOST_UPLOADS:
            raise Busy(f"{MOST_UPLOADS} uploads are under way; try again in 5 s", 5)
        state.uploading += 1
        try:
            entry = await uploads.receive(request.stream(), name, store, settings.max_sound_s, state.decoding)
        except uploads.NotSound as error:
            raise HTTPException(415, str(error)) from None
        except TimeoutError:
            raise HTTPException(408, f"the upload took longer than {uploads.SENT_WITHIN_S:g} s") from None
        except OSError as error:
            raise HTTPException(507, f"the upload could not be kept ({error.strerror})") from None
        finally:
            state.uploading -= 1
        return TakeAnswer.of(entry)


def _file_name(name: str, suffix: str) -> str:
    """A take's name as one of a file, on any system."""
    safe = "".join(letter if letter.isalnum() or letter in " -_,()" else "_" for letter in name)
    return f"{' '.join(safe.split())[:80] or 'music'}.{suffix}"


# -- the service and its page


def _add_service(app: FastAPI) -> None:
    model: MusicLM = app.state.context.model
    settings: Settings = app.state.settings

    @app.get("/v1/about", tags=["service"], operation_id="about")
    def about() -> AboutAnswer:
        """What there is: the model, the verbs and the limits."""
        return AboutAnswer(
            version=__version__,
            bundle=model.bundle.name,
            bundle_hash=model.bundle.hash,
            sample_rate_hz=model.sample_rate_hz,
            can_steer=bool(model.steering(model.default_config().steer, "")),
            can_follow=model.can_follow,
            verbs=[VerbAnswer(name=name, summary=str(request.__doc__)) for name, request in VERBS.items()],
            limits=Limits(
                duration_s=settings.max_duration_s,
                sound_s=settings.max_sound_s,
                upload_bytes=settings.max_upload_bytes,
                prompt_characters=MAX_PROMPT_CHARACTERS,
                capacity=settings.capacity,
                requests_per_minute=settings.requests_per_minute,
            ),
        )

    @app.get("/healthz", tags=["service"], operation_id="health")
    async def healthz(request: Request) -> Health:
        """That it is there, and how much it has to do."""
        jobs: Jobs = request.app.state.jobs
        return Health(
            status="ok",
            version=__version__,
            bundle=model.bundle.hash,
            running=jobs.num_running,
            waiting=jobs.num_waiting,
            capacity=jobs.capacity,
        )

    @app.get(
        "/metrics",
        tags=["service"],
        operation_id="metrics",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    )
    def metrics() -> Response:
        """For Prometheus."""
        return Response(generate_latest(app.state.metrics.registry), media_type=CONTENT_TYPE_LATEST)


def _add_studio(app: FastAPI) -> None:
    settings: Settings = app.state.settings

    @app.post("/v1/session", tags=["service"], operation_id="sign_in", status_code=204)
    def sign_in(key: ApiKey, request: Request, response: Response) -> None:
        """Takes the API key, and gives a cookie for it, so that a browser may play and download."""
        import hmac

        wanted = settings.api_key
        if wanted is None or not hmac.compare_digest(key.key.encode(), wanted.encode()):
            raise HTTPException(401, "this is not the API key" if wanted else "no API key is needed here")
        secure = request.url.scheme == "https"
        response.set_cookie(COOKIE, cookie_of(wanted), httponly=True, samesite="strict", secure=secure)

    @app.get("/", include_in_schema=False)
    def page() -> FileResponse:
        return FileResponse(
            STUDIO / "index.html",
            headers={
                "content-security-policy": POLICY,
                "x-content-type-options": "nosniff",
                "referrer-policy": "no-referrer",
                "cache-control": "no-cache",
            },
        )

    app.mount("/studio", StudioFiles(directory=STUDIO), name="studio")


class StudioFiles(StaticFiles):
    """Files that a browser asks for again, so that all are of one version."""

    def file_response(self, *what: Any, **more: Any) -> Response:
        response = super().file_response(*what, **more)
        response.headers["cache-control"] = "no-cache"
        return response
