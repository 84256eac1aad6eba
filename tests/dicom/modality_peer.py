"""A modality of pynetdicom: reports performed steps and asks for storage commitment. Prints one JSON line.

modality_peer.py mpps PORT STUDY_UID STEP_ID
modality_peer.py commitment PORT OWN_PORT    stores, asks, and hears reports on both kinds of association
modality_peer.py ask PORT                    stores, asks and is gone
modality_peer.py hear OWN_PORT               hears one report
modality_peer.py wrong PORT                  asks as one must not
"""

import json
import sys
import threading
import time

from alone import alone
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid
from pynetdicom import AE, evt
from pynetdicom.dimse_messages import N_EVENT_REPORT_RSP
from pynetdicom.sop_class import (
    CTImageStorage,
    ModalityPerformedProcedureStep,
    StorageCommitmentPushModel,
    StorageCommitmentPushModelInstance,
)

TITLE = "VIVID"
GATEWAY = "AFFERENT"
PATIENCE = 120
COMMITMENT = (StorageCommitmentPushModel, StorageCommitmentPushModelInstance)


def associate(ae, port, handlers=()):
    assoc = ae.associate("127.0.0.1", port, ae_title=GATEWAY, evt_handlers=list(handlers))
    if not assoc.is_established:
        sys.exit("the gateway does not associate")
    return alone(assoc)


def step(study, step_id, status):
    scheduled = Dataset()
    scheduled.StudyInstanceUID = study
    scheduled.AccessionNumber = "ACC-1"
    scheduled.RequestedProcedureID = "RP-1"
    scheduled.ScheduledProcedureStepID = step_id
    ds = Dataset()
    ds.ScheduledStepAttributesSequence = [scheduled]
    ds.PatientName = "SYNTHETIC^PAT"
    ds.PatientID = "4711"
    ds.PerformedProcedureStepID = "PPS-1"
    ds.PerformedStationAETitle = TITLE
    ds.PerformedProcedureStepStartDate = "20260302"
    ds.PerformedProcedureStepStartTime = "143000"
    ds.Modality = "US"
    if status:
        ds.PerformedProcedureStepStatus = status
    return ds


def code(answer):
    status = answer[0]
    return [f"{status.Status:04X}", f"{status.ErrorID:04X}" if "ErrorID" in status else ""]


def mpps(port, study, step_id):
    ae = AE(ae_title=TITLE)
    ae.add_requested_context(ModalityPerformedProcedureStep)
    assoc = associate(ae, port)
    uid = generate_uid()
    of = ModalityPerformedProcedureStep
    begin = step(study, step_id, "IN PROGRESS")
    other = step(study, step_id, "IN PROGRESS")
    other.PerformedProcedureStepID = "PPS-2"
    series = Dataset()
    series.SeriesInstanceUID = generate_uid()
    series.ProtocolName = "TTE"
    series.ReferencedImageSequence = []
    end = Dataset()
    end.PerformedProcedureStepStatus = "COMPLETED"
    end.PerformedProcedureStepEndDate = "20260302"
    end.PerformedProcedureStepEndTime = "150000"
    end.PerformedSeriesSequence = [series]
    broken_off = Dataset()
    broken_off.PerformedProcedureStepStatus = "DISCONTINUED"
    said = {}
    said["create without a status"] = code(assoc.send_n_create(step(study, step_id, None), of, generate_uid()))
    said["create completed"] = code(assoc.send_n_create(step(study, step_id, "COMPLETED"), of, generate_uid()))
    said["set before create"] = code(assoc.send_n_set(end, of, uid))
    said["create"] = code(assoc.send_n_create(begin, of, uid))
    said["create again"] = code(assoc.send_n_create(begin, of, uid))
    said["create another"] = code(assoc.send_n_create(other, of, uid))
    said["set"] = code(assoc.send_n_set(end, of, uid))
    said["set again"] = code(assoc.send_n_set(end, of, uid))
    said["set another end"] = code(assoc.send_n_set(broken_off, of, uid))
    assoc.release()
    return said


def image():
    ds = Dataset()
    ds.SOPClassUID = CTImageStorage
    ds.SOPInstanceUID = generate_uid()
    ds.StudyInstanceUID = generate_uid()
    ds.SeriesInstanceUID = generate_uid()
    ds.PatientName = "SYNTHETIC^PAT"
    ds.PatientID = "4711"
    ds.Modality = "CT"
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return ds


def request(uids):
    ds = Dataset()
    ds.TransactionUID = generate_uid()
    ds.ReferencedSOPSequence = []
    for uid in uids:
        item = Dataset()
        item.ReferencedSOPClassUID = CTImageStorage
        item.ReferencedSOPInstanceUID = uid
        ds.ReferencedSOPSequence.append(item)
    return ds


class Reports:
    """What is reported, in short, and where."""

    def __init__(self):
        self.all = []
        self.heard = threading.Event()

    def on(self, where):
        def note(event):
            info = event.event_information
            failed = [[i.ReferencedSOPInstanceUID, f"{i.FailureReason:04X}"] for i in info.get("FailedSOPSequence", [])]
            good = [i.ReferencedSOPInstanceUID for i in info.get("ReferencedSOPSequence", [])]
            self.all.append([where, event.event_type, info.TransactionUID, good, failed])
            return 0x0000, None

        def answered(event):
            # Only now: what is asked on the association of a report that is not answered yet may never return.
            if isinstance(event.message, N_EVENT_REPORT_RSP):
                self.heard.set()

        return [(evt.EVT_N_EVENT_REPORT, note), (evt.EVT_DIMSE_SENT, answered)]

    def wait(self):
        self.heard.wait(PATIENCE)
        self.heard.clear()
        # The association's own thread has still to go back to listening.
        time.sleep(0.05)
        told, self.all = self.all, []
        return told


def listen(port, reports):
    server = AE(ae_title=TITLE)
    server.add_supported_context(StorageCommitmentPushModel, scu_role=False, scp_role=True)
    return server.start_server(("127.0.0.1", port), block=False, evt_handlers=reports.on("own association"))


def call(port, reports):
    ae = AE(ae_title=TITLE)
    ae.add_requested_context(CTImageStorage, ExplicitVRLittleEndian)
    # Two contexts for it, as some modalities have it: the report must be in the syntax of its own.
    ae.add_requested_context(StorageCommitmentPushModel, ImplicitVRLittleEndian)
    ae.add_requested_context(StorageCommitmentPushModel, ExplicitVRLittleEndian)
    return associate(ae, port, reports.on("same association"))


def store(assoc, ds):
    status = assoc.send_c_store(ds).Status
    if status != 0:
        sys.exit(f"C-STORE is answered {status:04X}")


def commitment(port, own_port):
    reports = Reports()
    listening = listen(own_port, reports)
    assoc = call(port, reports)
    ds, missing = image(), generate_uid()
    store(assoc, ds)
    names = {ds.SOPInstanceUID: "stored", missing: "missing"}
    said = {}

    def tell(name, asked, answer):
        names[asked.TransactionUID] = name
        said[f"{name}, action"] = f"{answer[0].Status:04X}"

    def told(name):
        short = lambda value: names.get(value, value)
        said[name] = [
            [where, kind, short(transaction), [short(uid) for uid in good], [[short(uid), why] for uid, why in failed]]
            for where, kind, transaction, good, failed in reports.wait()
        ]

    whole = request([ds.SOPInstanceUID])
    tell("whole", whole, assoc.send_n_action(whole, 1, *COMMITMENT))
    told("whole")
    # Asked again, answered again.
    tell("whole", whole, assoc.send_n_action(whole, 1, *COMMITMENT))
    told("again")
    # The same name for another request.
    twice = request([missing])
    twice.TransactionUID = whole.TransactionUID
    tell("whole", twice, assoc.send_n_action(twice, 1, *COMMITMENT))
    told("duplicate")
    # The report waits for what is missing, and by then the association is gone.
    partly = request([ds.SOPInstanceUID, missing])
    tell("partly", partly, assoc.send_n_action(partly, 1, *COMMITMENT))
    assoc.abort()
    told("partly")
    # What comes after it was asked for is waited for.
    late, assoc = image(), call(port, reports)
    names[late.SOPInstanceUID] = "late"
    asked = request([late.SOPInstanceUID])
    tell("late", asked, assoc.send_n_action(asked, 1, *COMMITMENT))
    store(assoc, late)
    told("late")
    assoc.release()
    listening.shutdown()
    return said


def ask(port):
    assoc = call(port, Reports())
    ds = image()
    store(assoc, ds)
    asked = request([ds.SOPInstanceUID, generate_uid()])
    answer, _ = assoc.send_n_action(asked, 1, *COMMITMENT)
    assoc.abort()
    return {"status": f"{answer.Status:04X}", "transaction": asked.TransactionUID, "instance": ds.SOPInstanceUID}


def hear(own_port):
    reports = Reports()
    listening = listen(own_port, reports)
    told = reports.wait()
    listening.shutdown()
    return told


def wrong(port):
    assoc = call(port, Reports())
    empty, nameless = request([]), request([generate_uid()])
    del nameless.TransactionUID
    good = request([generate_uid()])
    told = {
        "unknown action": assoc.send_n_action(good, 2, *COMMITMENT),
        "unknown instance": assoc.send_n_action(good, 1, StorageCommitmentPushModel, generate_uid()),
        "no instances": assoc.send_n_action(empty, 1, *COMMITMENT),
        "no transaction": assoc.send_n_action(nameless, 1, *COMMITMENT),
    }
    assoc.release()
    return {name: f"{answer[0].Status:04X}" for name, answer in told.items()}


if __name__ == "__main__":
    kind, arguments = sys.argv[1], sys.argv[2:]
    if kind == "mpps":
        print(json.dumps(mpps(int(arguments[0]), *arguments[1:])))
    else:
        print(json.dumps(globals()[kind](*map(int, arguments))))
