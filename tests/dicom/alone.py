"""What pynetdicom 3.0 lacks: an association whose own thread leaves the answer to a request to whoever asked.

That thread is told to pause while something is asked. Where it was just past the place at which it pauses, as happens on
a busy machine, it takes the answer off the queue for itself, and whoever asked waits for 30 s and aborts.
"""

import threading

ASKS = ("send_c_store", "send_n_action", "send_n_create", "send_n_event_report", "send_n_set")


def alone(assoc):
    if hasattr(assoc, "asking"):
        return assoc
    assoc.asking = 0
    lock, take = threading.Lock(), assoc.dimse.get_msg

    def get_msg(block=False):
        # Who asks waits; the association's own thread only looks.
        if block:
            return take(block=True)
        with lock:
            return (None, None) if assoc.asking else take(block=False)

    def asked(send):
        def ask(*arguments, **named):
            with lock:
                assoc.asking += 1
            try:
                return send(*arguments, **named)
            finally:
                with lock:
                    assoc.asking -= 1

        return ask

    assoc.dimse.get_msg = get_msg
    for name in ASKS:
        setattr(assoc, name, asked(getattr(assoc, name)))
    return assoc
