"""A client of the bus that shares no code with afferent: prints what it hears, says what it is told to say.

witness.py HOST PORT CA CERT KEY NAME FILTER

Prints {"up": true} each time it is subscribed, and one JSON object for each message. Reads lines of JSON:
{"topic", "payload" (base64), "retain"}. Answers up/echo on dn/echo when NAME begins with "desk".
"""
import base64, json, sys, threading, time
import paho.mqtt.client as mqtt
from paho.mqtt.properties import Properties
from paho.mqtt.packettypes import PacketTypes

host, port, ca, cert, key, name, pattern = sys.argv[1:]
answers = name.startswith("desk")


lock = threading.Lock()


def say(what):
    with lock:
        print(json.dumps(what), flush=True)


def connected(client, userdata, flags, reason, properties):
    client.subscribe(pattern, qos=1)


def subscribed(client, userdata, mid, reasons, properties):
    say({"up": True, "reasons": [r.value for r in reasons]})


def heard(client, userdata, message):
    expiry = getattr(message.properties, "MessageExpiryInterval", None)
    say({"topic": message.topic, "payload": base64.b64encode(message.payload).decode(), "retain": message.retain,
         "qos": message.qos, "expiry": expiry})
    if answers and message.topic.endswith("/up/echo"):
        client.publish(message.topic[: -len("up/echo")] + "dn/echo", message.payload, qos=1)


client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, client_id=name, protocol=mqtt.MQTTv5)
client.tls_set(ca, cert, key)
client.on_connect, client.on_subscribe, client.on_message = connected, subscribed, heard
client.reconnect_delay_set(1, 1)
while True:
    try:
        client.connect(host, int(port), keepalive=10, clean_start=True)
        break
    except OSError:
        time.sleep(0.05)
client.loop_start()
for line in sys.stdin:
    told = json.loads(line)
    done = client.publish(told["topic"], base64.b64decode(told["payload"]), qos=1, retain=told["retain"])
    done.wait_for_publish()
    say({"said": told["topic"]})
client.loop_stop()
