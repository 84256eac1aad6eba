//! Other addresses for real: systemd-networkd in a network of its own, with a DHCP server at the other end of its cable.
//! Only systemd's timers are played: that takes a machine which systemd has started.

use crate::site::free_port;
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const NETWORKD: &str = "/lib/systemd/systemd-networkd";

/// Network, mounts and processes of its own: whatever was started there ends with it.
const APART: [&str; 6] = ["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];

/// A machine whose network is its own: eth0 has a cable to far0, behind which a DHCP server stands.
const MACHINE: &str = r#"
mount -t tmpfs none /run && mount -t tmpfs none /etc/systemd/network
mkdir -p /run/timers /run/dbus /run/systemd/system /run/systemd/network /run/systemd/netif/links /run/systemd/netif/leases
chown -R systemd-network:systemd-network /run/systemd/netif
mount -t sysfs -o ro none /sys
ip link set lo up
ip netns add far
ip link add eth0 type veth peer name far0 netns far
dbus-daemon --system --nofork --nopidfile 2> bus.log &
for _ in $(seq 100); do [ -S /run/dbus/system_bus_socket ] && break; sleep 0.1; done
ip netns exec far unshare -m sh -c '
    mount -t tmpfs none /run && mount -o remount,ro,bind /sys && mkdir -p /run/systemd/network /run/systemd/netif/links /run/systemd/netif/leases
    chown -R systemd-network:systemd-network /run/systemd/netif
    printf "[Match]\nName=far0\n[Network]\nAddress=10.9.0.1/24\nDHCPServer=yes\n[DHCPServer]\nNTP=10.9.0.1\n" \
        > /run/systemd/network/far.network
    exec systemd-networkd' 2> far.log &
systemd-networkd 2> near.log &
has() { ip -4 -o address show "${2:-eth0}" | grep -q "$1"; }
gone() { ! has "$@"; }
soon() { for _ in $(seq 600); do "$@" && return 0; sleep 0.1; done; return 1; }
file=/etc/systemd/network/10-afferent-eth0.network
soon grep -qs ADMIN_STATE=unmanaged "/run/systemd/netif/links/$(cat /sys/class/net/eth0/ifindex)" || exit 10
"#;

/// `systemd-run` and `systemctl` as far as they are used: a timer that outlives who set it, and is stopped by its name. It
/// is due when the test says so.
const TIMER: &str = r#"#!/bin/sh
case $1 in
stop) kill "$(cat "/run/timers/$2")" && rm "/run/timers/$2"; exit ;;
esac
[ ! -e /run/broken ] || { echo 'no timers today' >&2; exit 1; }
echo "$@" > /run/asked
while [ "${1#--}" != "$1" ]; do
    case $1 in --unit=*) timer=/run/timers/${1#--unit=}.timer ;; esac
    shift
done
[ ! -e "$timer" ] || { echo 'there is one of that name' >&2; exit 1; }
export timer
setsid sh -c 'until [ -e /run/due ]; do sleep 0.1; done; rm "$timer"; exec "$@"' sh "$@" < /dev/null > /dev/null 2>&1 &
echo $! > "$timer"
"#;

/// A time server (RFC 5905, section 14), as far as one question goes.
const NTP: &str = r#"
import socket, struct, time
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("0.0.0.0", 123))
open("ntp.up", "w").close()
while True:
    asked, who = server.recvfrom(512)
    now = struct.pack(">Q", int((time.time() + 2208988800) * 2**32))
    server.sendto(struct.pack(">BBbb", 0x24, 1, 6, -20) + bytes(8) + b"GPS\0" + now + asked[40:48] + now + now, who)
"#;

/// Runs this in such a machine, where `setup ANSWERS` is the setup; `None` where there can be none.
fn machine(dir: &Path, script: &str) -> Option<Output> {
    let is_root = Command::new("id").arg("-u").output().is_ok_and(|id| id.stdout == b"0\n");
    let has = |program: &str| Command::new("sh").args(["-c", &format!("command -v {program}")]).output();
    let is_there = ["unshare", "ip", "dbus-daemon", "networkctl", "setsid", NETWORKD];
    let is_there = is_there.iter().all(|program| has(program).is_ok_and(|found| found.status.success()));
    let can = Command::new("unshare").args(APART).args(["mount", "-t", "tmpfs", "none", "/run"]).output();
    if !is_root || !is_there || !can.is_ok_and(|can| can.status.success()) {
        println!("left out: systemd-networkd in a network of its own (takes root, unshare, ip, dbus-daemon, systemd)");
        return None;
    }
    let doubles = dir.join("bin");
    std::fs::create_dir_all(&doubles).unwrap();
    for name in ["systemd-run", "systemctl"] {
        std::fs::write(doubles.join(name), TIMER).unwrap();
        std::fs::set_permissions(doubles.join(name), std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let setup = format!(
        "export PATH={}:/lib/systemd:$PATH\nsetup() {{ printf '%b' \"$1\" > answers.toml; {} setup --json --config afferent.toml \
         --answers answers.toml; }}\n",
        doubles.display(),
        env!("CARGO_BIN_EXE_afferent")
    );
    let script = format!("{setup}{MACHINE}{script}");
    let mut command = Command::new("unshare");
    command.args(APART).args(["sh", "-c", &script]).current_dir(dir);
    Some(command.stdin(Stdio::null()).output().unwrap())
}

/// What was said, when all of it went well.
fn said(output: &Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}: {out}\n{err}", output.status);
    format!("{out}\n{err}")
}

const FIXED: &str = r#"[network]\nset = \"static\"\ninterface = \"eth0\"\naddress = \"10.9.0.7/24\"\ngateway = \"none\"\ndns = \"none\"\nwrite = true\n"#;

#[test]
fn addresses_that_nobody_says_are_right_go_by_themselves() {
    let dir = tempfile::tempdir().unwrap();
    // It dies as a session does that hangs; the box is not asked, and nobody is there any more.
    let script = format!(
        r#"
        AFFERENT_ABORT_AT=setup-trial:1 setup "{FIXED}"
        has 10.9.0.7 || exit 11
        [ ! -e $file ] || exit 12
        grep -q -- "--unit=afferent-network-trial-eth0 --on-active=180" /run/asked || exit 14
        touch /run/due
        soon gone 10.9.0.7 || exit 13
        rm /run/due
        [ -z "$(ls /run/systemd/network)$(ls /etc/systemd/network)" ] && echo back
        setup "{FIXED}keep = false\n"
        soon gone 10.9.0.7 && [ ! -e $file ] && [ -z "$(ls /run/timers)" ] && echo taken back
        # What somebody else has set would be gone for good.
        ip address add 10.9.0.8/24 dev eth0
        setup "{FIXED}"
        has 10.9.0.8 && gone 10.9.0.7 && [ -e $file ] && echo left alone
        "#
    );
    let Some(output) = machine(dir.path(), &script) else { return };
    let said = said(&output);
    assert!(said.contains("back\ntaken back\nleft alone\n"), "{said}");
    assert!(said.contains("Nothing is tried: systemd-networkd does not set eth0 now"), "{said}");
}

#[test]
fn a_trial_of_one_interface_leaves_another_its_way_back() {
    let dir = tempfile::tempdir().unwrap();
    let other = FIXED.replace("eth0", "br-1").replace("10.9.0.7", "10.9.1.7");
    let script = format!(
        r#"
        ip link add br-1 type veth peer name far1 netns far && ip netns exec far ip link set far1 up
        soon grep -qs ADMIN_STATE=unmanaged "/run/systemd/netif/links/$(cat /sys/class/net/br-1/ifindex)" || exit 10
        AFFERENT_ABORT_AT=setup-trial:1 setup "{FIXED}"
        AFFERENT_ABORT_AT=setup-trial:1 setup "{other}"
        has 10.9.0.7 && has 10.9.1.7 br-1 || exit 11
        touch /run/due
        soon gone 10.9.0.7 && soon gone 10.9.1.7 br-1 && echo both back
        "#
    );
    let Some(output) = machine(dir.path(), &script) else { return };
    assert!(said(&output).contains("both back\n"), "{}", said(&output));
}

#[test]
fn a_trial_that_nothing_would_end_is_ended_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let other = FIXED.replace("10.9.0.7", "10.9.0.9");
    let script = format!(
        r#"
        AFFERENT_ABORT_AT=setup-trial:1 setup "{FIXED}"
        has 10.9.0.7 || exit 11
        touch /run/broken
        setup "{other}"
        soon gone 10.9.0.7 && gone 10.9.0.9 && [ -z "$(ls /run/systemd/network)" ] && echo put back
        "#
    );
    let Some(output) = machine(dir.path(), &script) else { return };
    let said = said(&output);
    assert!(said.contains("no timers today; the addresses are as they were") && said.contains("put back\n"), "{said}");
}

#[test]
fn without_a_cable_addresses_are_written_and_nothing_is_tried() {
    let dir = tempfile::tempdir().unwrap();
    let script = format!(
        r#"
        # Once who is at the other end has put it up, and will not again.
        soon ip netns exec far sh -c 'ip link show far0 | grep -q "[<,]UP"' && ip netns exec far ip link set far0 down
        # One that is not up does not know of its cable until it is tried.
        setup "{FIXED}"
        [ -e $file ] && [ -z "$(ls /run/systemd/network /run/timers | grep eth0)" ] && rm $file && echo found out
        ip link set eth0 up
        setup "{FIXED}"
        [ -e $file ] && echo known
        ip netns exec far ip link set far0 up && networkctl reload && soon has 10.9.0.7 && echo plugged in
        "#
    );
    let Some(output) = machine(dir.path(), &script) else { return };
    let said = said(&output);
    assert!(["found out\n", "known\n", "plugged in\n"].iter().all(|found| said.contains(found)), "{said}");
    let why = "Nothing is tried: eth0 has no carrier, as without a cable";
    assert_eq!(said.matches(why).count(), 2, "{said}");
}

#[test]
fn a_session_that_hung_is_gone_on_with_from_the_new_address() {
    let dir = tempfile::tempdir().unwrap();
    // A terminal that goes away with its session, and one that somebody comes back with.
    let script = format!(
        r#"
        export TERM=dumb
        mkfifo typed typed-later
        session() {{ script -qfec "{program} setup --config afferent.toml" $1.seen < $1 > /dev/null & }}
        session typed
        lost=$!
        exec 8> typed
        printf '%s
' bench-1 "$PWD/data" static eth0 10.9.0.7/24 none none yes >&8
        soon grep -q 'box reached at them?' typed.seen && has 10.9.0.7 || exit 11
        kill -9 $lost
        session typed-later
        exec 9> typed-later
        soon grep -q 'goes on where an earlier setup' typed-later.seen || exit 12
        soon grep -q 'box reached at them?' typed-later.seen || exit 13
        printf '%s
' yes >&9
        soon grep -q '10-afferent-eth0.network is written, and in effect' typed-later.seen || exit 14
        soon has 10.9.0.7 && [ -e $file ] && [ -z "$(ls /run/systemd/network /run/timers | grep eth0)" ] && echo kept
        "#,
        program = env!("CARGO_BIN_EXE_afferent"),
    );
    let Some(output) = machine(dir.path(), &script) else { return };
    let said = said(&output);
    let seen = std::fs::read_to_string(dir.path().join("typed-later.seen")).unwrap_or_default();
    assert!(said.contains("kept\n"), "{said}\n{seen}");
}

#[test]
fn addresses_that_are_right_are_kept_and_a_file_that_hides_them_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let script = format!(
        r#"
        setup "{FIXED}keep = true\n"
        # Its file has another name now, so that it is set anew.
        soon has 10.9.0.7 && [ -e $file ] && [ -z "$(ls /run/timers)" ] && echo kept
        [ -z "$(ls /run/systemd/network)" ] || exit 11
        printf '[Match]\nName=eth*\n[Network]\nAddress=10.9.0.9/24\n' > /etc/systemd/network/05-lab.network
        networkctl reload && soon has 10.9.0.9 || exit 12
        setup "{FIXED}keep = true\n"
        soon has 10.9.0.9 && echo as it was
        "#
    );
    let Some(output) = machine(dir.path(), &script) else { return };
    let said = said(&output);
    assert!(said.contains("kept\n") && said.contains("as it was\n"), "{said}");
    assert!(said.contains("/etc/systemd/network/05-lab.network sets eth0 in its place: ours does not count"), "{said}");
}

#[test]
fn the_time_server_that_dhcp_names_is_in_the_report() {
    let dir = tempfile::tempdir().unwrap();
    let answers = format!(
        r#"[gateway]\nname = \"bench-1\"\ndata = \"{}\"\n[network]\nset = \"dhcp\"\ninterface = \"eth0\"\nwrite = true\nkeep = true\n[ehr]\naddress = \"127.0.0.1:9\"\ntls = false\nunreachable = \"keep\"\n[link]\nlisten = \"127.0.0.1:{}\"\nlisten_s = 0\ndriver = \"roche-cobas-c311\"\n[test]\nsend = \"queue\"\n"#,
        dir.path().join("data").display(),
        free_port()
    );
    let again = r#"[config]\nexisting = \"add\"\n[ehr]\nuse = \"ehr\"\nunreachable = \"keep\"\n[link]\nuse = \"roche-cobas-c311\"\n[test]\nsend = \"queue\"\n"#;
    std::fs::write(dir.path().join("ntp.py"), NTP).unwrap();
    // It may not set the clock, which is that of whoever runs this.
    let script = format!(
        r#"
        setup "{answers}" && has 10.9.0. || exit 11
        has_all() {{ for program in "$@"; do command -v $program > /dev/null || return 1; done; }}
        has_all systemd-timesyncd setpriv python3 timedatectl && id systemd-timesync > /dev/null || exit 0
        mkdir -p /run/systemd/timesync && chown systemd-timesync /run/systemd/timesync
        ip netns exec far python3 ntp.py &
        # One question that nobody hears is asked again half a minute later.
        soon [ -e ntp.up ] || exit 13
        setpriv --reuid=systemd-timesync --regid=systemd-timesync --clear-groups --bounding-set=-all --inh-caps=-all \
            systemd-timesyncd 2> time.log &
        soon sh -c 'timedatectl show-timesync | grep -q NTPMessage=' || exit 12
        setup "{again}"
        "#
    );
    let Some(output) = machine(dir.path(), &script) else { return };
    said(&output);
    let reports: Result<Vec<Value>, _> = serde_json::Deserializer::from_slice(&output.stdout).into_iter().collect();
    let reports = reports.unwrap();
    let report = &reports[0];
    assert_eq!(report["time_server"]["given"], serde_json::json!(["10.9.0.1"]), "{report}");
    assert!(report["open"].to_string().contains("the time server that DHCP names, 10.9.0.1"), "{report}");
    assert!(report["network"]["interfaces"].to_string().contains("10.9.0."), "{report}");
    let Some(report) = reports.get(1) else {
        println!("left out: that systemd-timesyncd asks the time server that DHCP names (not here, or no python3)");
        return;
    };
    assert_eq!(report["time_server"]["server"], "10.9.0.1", "{report}");
    assert!(!report["open"].to_string().contains("time server"), "{report}");
    let page = std::fs::read_to_string(dir.path().join("afferent.handover.txt")).unwrap();
    assert!(page.contains("set by 10.9.0.1, which DHCP names (systemd-timesyncd)"), "{page}");
}
