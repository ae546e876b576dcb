"""The composition root: everything is built and connected here, and nowhere else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager, closing, contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from importlib.metadata import version

import structlog
import torch
from fastapi import FastAPI
from pydantic import BaseModel
from sqlalchemy.exc import SQLAlchemyError

from app.access.browser_sessions import Sessions
from app.access.control import AccessControl
from app.access.keyring import RELOAD_SECONDS, Keyring
from app.access.limits import RateLimits
from app.access.origins import allow_origins
from app.access.policies import Policies
from app.datasets.stored_shards import StoredShards
from app.datasets.uploads.service import Uploads
from app.events.streaming import InstallationStreams
from app.http.connections.limits import ConnectionLimits, choose_max_connections
from app.http.connections.table import Connections
from app.http.dependencies import provide
from app.http.held_bodies import HeldBodies
from app.http.links import RootPath
from app.http.middleware import BodyLimit, RequestContext
from app.http.opening import OpenServices, StartGate, opened_behind
from app.http.problems import add_problem_handlers
from app.http.tracing import TraceContext, configure_telemetry
from app.inference.choosing import VersionChooser
from app.inference.classify.service import Classifier
from app.inference.embed.service import Embedder
from app.inference.protocols.oip.schemas import ServerLive
from app.inference.protocols.plain_errors import PlainErrors
from app.jobs.dispatcher import Dispatcher, open_dispatcher
from app.jobs.reaper import reap
from app.jobs.streaming import EventStreams
from app.jobs.webhooks.sender import WebhookSender, WebhookThread
from app.labels.stored import StoredLabels
from app.metrics.connections import ConnectionCollector
from app.metrics.jobs import JobCollector
from app.metrics.metrics import Metrics
from app.metrics.state import StateCollector
from app.metrics.webhooks import WebhookCollector
from app.models.bases import Bases, LoadBases, load_bases, register_bases
from app.models.follower import AliasFollower
from app.models.loader import VersionLoader
from app.models.pool import VersionPool
from app.models.shadow import Shadow
from app.patches.interpolants import Interpolants
from app.pictures.thumbnails import Thumbnails
from app.pictures.workers import PictureWorkers
from app.routes import add_routes
from app.runtime.fatal import end_process
from app.runtime.periodic import PeriodicThread
from app.runtime.temporary_files import temporary_files_in
from app.sampling.sampler import Sampler
from app.serving.batch_policy import BatchPolicy
from app.serving.engine import Engine
from app.settings import AppSettings, parse_secret
from app.storage.guard import StorageGuard
from app.storage.service import Storage
from app.system.cleaning import clean_up
from app.system.replica import LOOK_SECONDS, ReplicaAnnouncer
from app.system.schemas import Live
from app.versions.composer import Composer
from app.versions.exports import Exports
from app.versions.refusals import AliasRefusals
from app.web.docs_page import add_docs_page
from app.web.landing_page import add_landing_page
from app.web.openapi import document
from app.web.pages import add_pages
from app.web.site import PageErrors
from contract.versions import SHADOW_ALIAS
from paint_core.images.decoding import DEFAULT_MAX_PIXELS
from pipeline.devices import choose_device
from pipeline.programs import ProgramStore
from pipeline.telemetry import open_tracing
from pipeline.tracing import NO_TRACING, Tracing
from registry.blob_stores import open_blobs
from registry.blobs import BlobStore
from registry.database import Database
from registry.disk import Disks
from registry.leftovers import hold, sweep
from registry.startup import open_database, prepare_database

_LIVE: Mapping[str, BaseModel] = {"/livez": Live(), "/v2/health/live": ServerLive()}
_log = structlog.get_logger(__name__)


def create_app(
    settings: AppSettings,
    dispatcher: Dispatcher | None = None,
    *,
    listens_first: bool = False,
    load: LoadBases = load_bases,
    tracing: Tracing | None = None,
) -> FastAPI:
    """Return the ASGI application. Nothing is opened, loaded or started before its lifespan begins.

    Args:
        settings: The process's settings.
        dispatcher: Tells workers about jobs; default: Celery on the settings' broker.
        listens_first: Whether to listen before everything is loaded; see `app.http.opening`.
        load: Loads the base models.
        tracing: Records spans; default: as the settings say.
    """
    metrics = Metrics()
    tracing = tracing or open_tracing(settings, "paintbox-api")
    app = FastAPI(
        title="Paintbox",
        version=version("paintbox"),
        summary="Patch open-vocabulary image classifiers and serve them.",
        lifespan=_lifespan(partial(open_services, settings, metrics, dispatcher, load, tracing), listens_first),
        docs_url=None,
        redoc_url=None,
        telemetry=configure_telemetry(tracing),
    )
    app.state.services = None
    app.state.refusal = None  # why the services could not be opened, for `__main__`
    app.state.connections = Connections(
        ConnectionLimits(
            max_connections=choose_max_connections(settings.max_connections),
            keep_alive_seconds=settings.keep_alive_seconds,
        )
    )
    metrics.registry.register(ConnectionCollector(app.state.connections))
    app.openapi = document(app, settings.root_path)  # type: ignore[method-assign]
    add_problem_handlers(app)
    add_routes(app)
    add_docs_page(app)
    add_pages(app)
    add_landing_page(app)
    # the last one added is the outermost
    app.add_middleware(HeldBodies, max_bytes=settings.max_held_bytes or 6 * settings.max_request_bytes)
    app.add_middleware(BodyLimit, settings=settings)
    app.add_middleware(StorageGuard)
    app.add_middleware(AccessControl, settings=settings, policies=Policies.of(app))
    app.add_middleware(StartGate, live=_LIVE)
    app.add_middleware(RequestContext, observe=metrics.observe_request)
    if tracing.is_on:
        app.add_middleware(TraceContext, tracing=tracing)
    app.add_middleware(PlainErrors)
    app.add_middleware(PageErrors)
    if settings.root_path:
        app.add_middleware(RootPath, prefix=settings.root_path)
    if settings.allowed_origins:
        allow_origins(app, settings.allowed_origins)
    return app


def _lifespan(open_all: OpenServices, listens_first: bool) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        if listens_first:
            async with opened_behind(app, open_all):
                yield
        else:
            with open_all() as services:
                provide(app, services)
                yield

    return lifespan


@dataclass(frozen=True)
class Services:
    """The objects of the process, provided to endpoints by their types; see the classes."""

    settings: AppSettings
    database: Database
    blobs: BlobStore
    dispatcher: Dispatcher
    bases: Bases
    engine: Engine
    versions: VersionPool
    follower: AliasFollower
    composer: Composer
    interpolants: Interpolants
    exports: Exports
    streams: EventStreams
    installation_streams: InstallationStreams
    keyring: Keyring
    sessions: Sessions
    rate_limits: RateLimits
    metrics: Metrics
    replica: ReplicaAnnouncer
    shadow: Shadow
    uploads: Uploads
    storage: Storage
    labels: StoredLabels
    classifier: Classifier
    embedder: Embedder
    refusals: AliasRefusals
    shards: StoredShards
    picture_workers: PictureWorkers
    thumbnails: Thumbnails


@contextmanager
def open_services(
    settings: AppSettings,
    metrics: Metrics,
    dispatcher: Dispatcher | None = None,
    load: LoadBases = load_bases,
    tracing: Tracing = NO_TRACING,
) -> Iterator[Services]:
    """Yield the services, with the database migrated, the active version loaded and the threads running.

    Yields:
        Services: Everything is stopped and closed when the context ends.
    """
    settings.make_directories()
    with ExitStack() as stack:
        stack.callback(tracing.close)
        stack.enter_context(temporary_files_in(settings.scratch_dir))
        database = _open_database(settings, stack)
        sweep(settings, database)
        stack.enter_context(hold(settings))
        device = choose_device(settings.device, settings.processes)
        bases = load(settings.bases, device)
        register_bases(database, bases)
        blobs = open_blobs(settings)
        broker_url = None if dispatcher else settings.broker_url.get_secret_value()
        dispatcher = open_dispatcher(settings.broker_url.get_secret_value(), dispatcher, tracing)
        stack.callback(dispatcher.close)
        engine = _open_engine(settings, metrics, device, tracing)
        stack.callback(engine.close)
        versions = _open_versions(settings, database, blobs, bases, engine)
        stack.callback(versions.close)
        follower = AliasFollower(database, versions)
        follower.follow()
        sampler = stack.enter_context(closing(Sampler.open(settings, database, blobs, metrics)))
        find_shadow = partial(versions.serving, SHADOW_ALIAS)
        shadow = Shadow(engine, find_shadow, settings.shadow_share, sampler.offer_differences)
        stack.callback(shadow.close)
        replica = _open_replica(settings, database, versions, stack)
        uploads, storage = _open_storage(settings, database, replica)
        streams, installation_streams = _open_streams(settings, database, stack)
        keyring = _open_keyring(settings, database)
        job_metrics = JobCollector(database)
        metrics.registry.register(job_metrics)
        metrics.registry.register(WebhookCollector(database))
        metrics.registry.register(StateCollector(engine, versions, bases, shadow, storage))
        labels, chooser = StoredLabels(database), VersionChooser(versions, settings.canary_share)
        services = Services(
            settings,
            database,
            blobs,
            dispatcher,
            bases,
            engine,
            versions,
            follower,
            Composer(database, blobs, bases),
            Interpolants(blobs),
            Exports(settings.max_exports),
            streams,
            installation_streams,
            keyring,
            Sessions(database, keyring, timedelta(hours=settings.session_hours)),
            RateLimits(settings.rate_limit, broker_url),
            metrics,
            replica,
            shadow,
            uploads,
            storage,
            labels,
            Classifier(settings, engine, chooser, labels, metrics, sampler),
            Embedder(settings, engine, chooser),
            AliasRefusals(database, settings.webhook_url, metrics.count_refusal),
            StoredShards(blobs),
            *_open_pictures(stack),
        )
        for thread in (*_threads(services, job_metrics), *_webhook_threads(services)):
            thread.start()
            stack.callback(thread.stop)
        yield services


def _open_keyring(settings: AppSettings, database: Database) -> Keyring:
    bootstrap = settings.api_key.get_secret_value() if settings.api_key else None
    return Keyring(database, bootstrap, settings.keys_file)


def _open_database(settings: AppSettings, stack: ExitStack) -> Database:
    database = open_database(settings.resolved_database_url)
    stack.callback(database.close)
    prepare_database(database, settings, say=_log.warning)
    return database


def _open_versions(
    settings: AppSettings, database: Database, blobs: BlobStore, bases: Bases, engine: Engine
) -> VersionPool:
    loader = VersionLoader(
        database,
        blobs,
        bases,
        lambda: engine.is_busy,
        settings.serving_precision,
        ProgramStore(settings.program_dir),
        settings.decode_threads,
    )
    return VersionPool(database, loader, settings.version_cache_bytes)


def _open_engine(settings: AppSettings, metrics: Metrics, device: torch.device, tracing: Tracing) -> Engine:
    return Engine(
        decode_threads=settings.decode_threads,
        max_queue_images=settings.max_queue_images,
        max_queue_texts=2 * settings.max_prompts,
        max_queue_megapixels=settings.max_queue_megapixels,
        max_image_pixels=settings.max_served_pixels,
        on_batch=metrics.observe_batch,
        policy=BatchPolicy.for_device(
            device, settings.decode_threads, settings.max_batch_images, settings.batch_wait_ms
        ),
        head_cache_bytes=settings.head_cache_bytes,
        on_fatal=end_process,
        tracing=tracing,
    )


def _open_replica(
    settings: AppSettings, database: Database, versions: VersionPool, stack: ExitStack
) -> ReplicaAnnouncer:
    replica = ReplicaAnnouncer(database, versions, settings.replica_interval_seconds)
    with suppress(SQLAlchemyError):  # a full disk does not prevent classification
        replica.announce()
    stack.callback(replica.withdraw)
    return replica


def _open_streams(
    settings: AppSettings, database: Database, stack: ExitStack
) -> tuple[EventStreams, InstallationStreams]:
    streams = EventStreams(database, settings.max_event_streams, settings.max_event_streams_per_owner)
    installation_streams = InstallationStreams(database, streams)
    stack.callback(installation_streams.stop)
    stack.callback(streams.stop)
    return streams, installation_streams


def _open_pictures(stack: ExitStack) -> tuple[PictureWorkers, Thumbnails]:
    workers = PictureWorkers()
    stack.callback(workers.close)
    return workers, Thumbnails(workers, DEFAULT_MAX_PIXELS)


def _open_storage(settings: AppSettings, database: Database, replica: ReplicaAnnouncer) -> tuple[Uploads, Storage]:
    folders = (settings.data_dir, settings.blob_dir, settings.upload_dir)
    settings.upload_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    disks = Disks(folders, settings.min_free_bytes)
    is_shared = "upload_dir" in settings.model_fields_set
    is_alone = partial(replica.is_alone, on_other_machines=settings.processes > 1)  # those here share the folder
    uploads = Uploads(
        settings.upload_dir,
        disks,
        max_bytes=settings.max_upload_bytes,
        max_per_owner=settings.max_uploads,
        is_alone=(lambda: True) if is_shared else is_alone,
    )
    return uploads, Storage(database, uploads.announced_bytes, disks, settings.max_stored_bytes)


def _threads(services: Services, job_metrics: JobCollector) -> tuple[PeriodicThread, ...]:
    settings = services.settings

    def reap_jobs() -> None:
        job_metrics.count_lapses()
        reap(services.database, services.dispatcher, settings.redispatch_after_seconds)

    return (
        PeriodicThread("paintbox-reaper", settings.reaper_interval_seconds, reap_jobs),
        PeriodicThread("paintbox-alias", settings.alias_interval_seconds, services.follower.follow),
        PeriodicThread("paintbox-replica", LOOK_SECONDS, services.replica.announce),
        PeriodicThread("paintbox-keys", RELOAD_SECONDS, services.keyring.reload),
        PeriodicThread(
            "paintbox-trash",
            settings.trash_interval_seconds,
            partial(clean_up, settings, services.database, services.blobs, services.uploads),
        ),
    )


def _webhook_threads(services: Services) -> tuple[PeriodicThread, ...]:
    settings = services.settings
    if settings.webhook_secret is None or not settings.webhook_hosts:
        return ()
    key = parse_secret(settings.webhook_secret.get_secret_value())
    sender = WebhookSender(services.database, key, settings.webhook_hosts, services.metrics.count_webhook)
    return (WebhookThread(sender, settings.webhook_interval_seconds),)
