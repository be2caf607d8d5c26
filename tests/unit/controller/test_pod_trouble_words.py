"""What an operator reads when agents do not get ready, for pods and events as Kubernetes tells them."""

from typing import Any

import pytest

from controller.domain.pod_trouble import MAX_WORDS, summarize

NAME = "storefleet-agent"


def pod(state: dict[str, Any], last: dict[str, Any] | None = None, *, ready: bool = False) -> dict[str, Any]:
    status = {"name": "agent", "restartCount": 1, "ready": ready, "state": state, "lastState": last or {}}
    condition = {"type": "Ready", "status": str(ready)}
    return {
        "metadata": {"name": "pod-1", "uid": "uid-1"},
        "spec": {"nodeName": "node-1", "containers": [{"image": "agent:1"}]},
        "status": {"conditions": [condition], "containerStatuses": [status]},
    }


def warning(message: str, uid: str = "uid-1", at: str = "2026-05-04T12:00:00Z") -> dict[str, Any]:
    return {
        "reason": "Unhealthy",
        "message": message,
        "lastTimestamp": at,
        "involvedObject": {"kind": "Pod", "uid": uid},
    }


def died(code: int, message: str = "") -> dict[str, Any]:
    return {"terminated": {"exitCode": code, "reason": "Error", "message": message}}


RUNNING: dict[str, Any] = {"running": {}}
BACK_OFF = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}}


@pytest.mark.parametrize(
    ("found", "events", "words"),
    [
        pytest.param(pod(RUNNING, ready=True), [warning("Readiness probe failed: x")], (), id="well"),
        pytest.param(
            pod(BACK_OFF, died(2, "no such\nruntime")),
            [],
            ("container agent keeps crashing (restart 1, exit code 2): no such runtime",),
            id="crashes-again-and-again",
        ),
        pytest.param(
            pod(died(2, "no such runtime")),
            [],
            ("container agent crashed (restart 1, exit code 2): no such runtime",),
            id="has-just-crashed",
        ),
        pytest.param(
            pod(
                BACK_OFF,
                died(1, 'noise\n{"level": "error", "message": "cannot go on", "detail": "no model"}\n'),
            ),
            [],
            ("container agent keeps crashing (restart 1, exit code 1): cannot go on: no model",),
            id="the-last-line-of-a-log-in-json",
        ),
        pytest.param(
            pod(RUNNING, died(139)),
            [],
            ("container agent crashed (restart 1, exit code 139): Error",),
            id="runs-again-after-a-crash-without-words",
        ),
        pytest.param(
            pod(RUNNING, died(0)),
            [],
            ("the agent runs but is not ready: see its log and storefleet fleet",),
            id="ended-in-order-before",
        ),
        pytest.param(
            pod(RUNNING),
            [
                warning("Readiness probe failed: model refused\n", at="2026-05-04T12:00:05Z"),
                warning("Readiness probe failed: starting", at="2026-05-04T12:00:00Z"),
                warning("Readiness probe failed: another's", uid="uid-2", at="2026-05-04T12:00:09Z"),
            ],
            ("the agent runs but is not ready: model refused",),
            id="the-probe's-last-words",
        ),
        pytest.param(
            pod(RUNNING),
            [warning("Readiness probe failed: ")],
            ("the agent runs but is not ready: its probe gave no answer in time; is the node overloaded?",),
            id="the-probe-took-too-long",
        ),
        pytest.param(
            pod(RUNNING),
            [warning("Readiness probe errored: rpc error: DeadlineExceeded: took too long")],
            ("the agent runs but is not ready: rpc error: DeadlineExceeded: took too long",),
            id="the-probe-gave-no-answer",
        ),
    ],
)
def test_trouble_is_put_into_words(
    found: dict[str, Any], events: list[dict[str, Any]], words: tuple[str, ...]
) -> None:
    summary = summarize([found], events, "r-1", NAME)
    assert summary.problems == tuple(f"node node-1: {each}" for each in words)


def test_of_a_long_log_its_end_is_told() -> None:
    text = "traceback " * 300 + "KeyError: 'name'"
    (problem,) = summarize([pod(BACK_OFF, died(1, text))], [], "r-1", NAME).problems
    assert problem.endswith("KeyError: 'name'")
    assert len(problem) < MAX_WORDS + 100


def test_a_mount_that_fails_is_told_once_and_by_its_name() -> None:
    def mount(message: str) -> dict[str, Any]:
        return warning(message) | {"reason": "FailedMount"}

    vague = mount("Unable to attach or mount volumes: [secrets]: timed out waiting for the condition")
    exact = mount('MountVolume.SetUp failed for volume "secrets" : secret "storefleet-agent" not found')
    waiting = pod({"waiting": {"reason": "ContainerCreating"}})
    assert summarize([waiting], [vague, exact], "r-1", NAME).problems == (f"node node-1: {exact['message']}",)
    assert summarize([waiting], [vague], "r-1", NAME).problems == (f"node node-1: {vague['message']}",)


def test_pods_that_are_refused_again_and_again_are_one_trouble() -> None:
    refused = [
        {
            "involvedObject": {"kind": "DaemonSet", "name": NAME, "uid": "uid-9"},
            "reason": "FailedCreate",
            "message": f'Error creating: pods "{NAME}-{number}" is forbidden: exceeded quota: poor',
        }
        for number in range(3)
    ]
    (problem,) = summarize([], refused, "r-1", NAME).problems
    assert problem == "no pod could be created: Error creating: pods is forbidden: exceeded quota: poor"


def unscheduled(message: str) -> dict[str, Any]:
    found = pod(RUNNING)
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
    found["status"] = {"phase": "Pending", "conditions": [condition]}
    return found


@pytest.mark.parametrize(
    ("message", "remedy"),
    [
        pytest.param(
            '0/1 nodes are available: 1 persistentvolumeclaim "storefleet-data" not found.',
            "PersistentVolumeClaim storefleet-data is missing: kubectl apply -k k3s/store",
            id="no-claim",
        ),
        pytest.param(
            'persistentvolumeclaim "storefleet-data" is being deleted',
            "then delete its volume",
            id="claim-is-going",
        ),
        pytest.param(
            "0/2 nodes are available: 2 pod has unbound immediate PersistentVolumeClaims.",
            "the PersistentVolumeClaim is not bound: kubectl get pv",
            id="claim-without-volume",
        ),
        pytest.param(
            "0/1 nodes are available: 1 Insufficient gpu.intel.com/i915. preemption: 0/1 nodes",
            "gpu.intel.com/i915 is taken or missing: the device plugin has to offer each GPU twice",
            id="no-second-gpu",
        ),
        pytest.param(
            "0/1 nodes are available: 1 Insufficient nvidia.com/gpu.", "nvidia.com/gpu is", id="cuda"
        ),
    ],
)
def test_what_is_missing_in_the_cluster_comes_with_the_remedy(message: str, remedy: str) -> None:
    (problem,) = summarize([unscheduled(message)], [], "r-1", NAME).problems
    assert problem.startswith(f"node node-1: cannot be scheduled: {message} - ")
    assert remedy in problem


def test_what_no_remedy_is_known_for_is_told_as_it_is() -> None:
    (problem,) = summarize([unscheduled("1 Insufficient memory.")], [], "r-1", NAME).problems
    assert problem == "node node-1: cannot be scheduled: 1 Insufficient memory."


def refused(message: str, at: str) -> dict[str, Any]:
    about = {"kind": "DaemonSet", "name": NAME}
    return {"reason": "FailedCreate", "message": message, "lastTimestamp": at, "involvedObject": about}


NO_CLASS = 'Error creating: pods "x" is forbidden: no PriorityClass with name storefleet-agent was found'


@pytest.mark.parametrize(
    ("message", "remedy"),
    [
        (NO_CLASS, "PriorityClass storefleet-agent is missing: kubectl apply -k k3s/store"),
        (
            'pods "x" is forbidden: pod rejected: RuntimeClass "nvidia" not found',
            "RuntimeClass nvidia is missing",
        ),
        ('pods "x" is forbidden: violates PodSecurity "restricted:latest"', "deploy the release again"),
        ('pods "x" is forbidden: exceeded quota: storefleet', "no pod could be created"),
    ],
)
def test_pods_that_the_cluster_refuses_come_with_the_remedy(message: str, remedy: str) -> None:
    (problem,) = summarize([], [refused(message, "2026-05-04T12:00:00Z")], "r-1", NAME).problems
    assert remedy in problem


@pytest.mark.parametrize(
    ("rollout", "at", "told"),
    [
        pytest.param("r-0", "2026-05-04T12:00:00Z", True, id="only-the-release-before-runs"),
        pytest.param("r-1", "2026-05-04T11:59:00Z", False, id="refused-before-there-was-a-pod"),
        pytest.param("r-1", "2026-05-04T12:01:00Z", True, id="refused-on-the-next-node"),
    ],
)
def test_a_refusal_counts_until_a_pod_of_the_release_was_created(rollout: str, at: str, told: bool) -> None:
    found = pod(RUNNING, ready=True)
    annotations = {"storefleet.io/rollout-id": rollout}
    found["metadata"] |= {"creationTimestamp": "2026-05-04T12:00:30Z", "annotations": annotations}
    problems = summarize([found], [refused(NO_CLASS, at)], "r-1", NAME).problems
    assert bool(problems) is told


def test_a_directory_that_is_missing_on_a_node_comes_with_how_to_make_it() -> None:
    why = "hostPath type check failed: /var/lib/storefleet is not a directory"
    event = warning(f'MountVolume.SetUp failed for volume "storefleet-data" : {why}')
    waiting = pod({"waiting": {"reason": "PodInitializing"}})
    (problem,) = summarize([waiting], [event | {"reason": "FailedMount"}], "r-1", NAME).problems
    assert problem.endswith("install -d -m 0750 -o 10001 -g 10001 /var/lib/storefleet")
