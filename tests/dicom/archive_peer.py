"""An archive of pynetdicom that stores images and answers for them (storage commitment). Prints one JSON line at the end.

archive_peer.py PORT GATEWAY_PORT WHERE REFUSALS COUNT

It reports on the association it is asked on (WHERE = same), or on one of its own to GATEWAY_PORT (WHERE = own). Of each
image it says REFUSALS times that there is no such instance, and commits after that. Ends when COUNT images are settled:
committed, or refused four times.
"""

import json
import os
import sys
import threading
from collections import Counter

from alone import alone
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian
from pynetdicom import AE, AllStoragePresentationContexts, ALL_TRANSFER_SYNTAXES, build_role, evt
from pynetdicom.sop_class import StorageCommitmentPushModel, StorageCommitmentPushModelInstance

TITLE = "ARCHIVE"
PATIENCE = 120
SENDS_MAX = 4
COMMITMENT = (StorageCommitmentPushModel, StorageCommitmentPushModelInstance)

port, gateway, where, refusals, count = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), int(sys.argv[5])
stored, refused, committed, answers, actions = Counter(), Counter(), set(), Counter(), []
done, lock = threading.Event(), threading.Lock()


def on_store(event):
    with lock:
        stored[event.request.AffectedSOPInstanceUID] += 1
    return 0x0000


def judge(asked):
    """The event's type and information."""
    info = Dataset()
    info.TransactionUID = asked.TransactionUID
    good, failed = [], []
    with lock:
        for item in asked.ReferencedSOPSequence:
            uid = item.ReferencedSOPInstanceUID
            told = Dataset()
            told.ReferencedSOPClassUID = item.ReferencedSOPClassUID
            told.ReferencedSOPInstanceUID = uid
            if stored[uid] and refused[uid] >= refusals:
                committed.add(uid)
                good.append(told)
            else:
                refused[uid] += 1
                told.FailureReason = 0x0112
                failed.append(told)
    if good:
        info.ReferencedSOPSequence = good
    if failed:
        info.FailedSOPSequence = failed
    return (2 if failed else 1), info


def on_action(event):
    asked = event.action_information
    actions.append(len(asked.ReferencedSOPSequence))
    threading.Timer(0.2, report, (event.assoc, asked)).start()
    return 0x0000, None


def report(assoc, asked):
    kind, info = judge(asked)
    if where == "own":
        ae = AE(ae_title=TITLE)
        ae.add_requested_context(StorageCommitmentPushModel, [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
        role = build_role(StorageCommitmentPushModel, scp_role=True)
        assoc = ae.associate("127.0.0.1", gateway, ae_title="AFFERENT", ext_neg=[role])
    assoc = alone(assoc)
    status, _ = assoc.send_n_event_report(info, kind, *COMMITMENT)
    answers[f"{status.Status:04X}" if status else "none"] += 1
    if where == "own":
        # A report that is repeated is answered the same.
        status, _ = assoc.send_n_event_report(info, kind, *COMMITMENT)
        answers[f"again {status.Status:04X}" if status else "none"] += 1
        assoc.release()
    with lock:
        settled = len(committed) + sum(times >= SENDS_MAX for times in refused.values())
        if settled >= count:
            done.set()


ae = AE(ae_title=TITLE)
for context in AllStoragePresentationContexts:
    ae.add_supported_context(context.abstract_syntax, ALL_TRANSFER_SYNTAXES)
ae.add_supported_context(StorageCommitmentPushModel, [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
handlers = [(evt.EVT_C_STORE, on_store), (evt.EVT_N_ACTION, on_action)]
server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers)
ended = done.wait(PATIENCE)
server.shutdown()
told = {
    "ended": ended,
    "committed": len(committed),
    "stored": sorted(stored.values()),
    "answers": sorted(answers),
    "requests": len(actions),
    "asked": sum(actions),
}
print(json.dumps(told), flush=True)
# The gateway keeps its association open for a while, and the threads of this end with it.
os._exit(0)
