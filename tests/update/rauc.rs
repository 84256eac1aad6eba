//! The real RAUC on a bus of its own, with two slots that are files. A script is its bootloader, as U-Boot's goes: an
//! order of slots, and attempts that each of them has left; another one is the power switch.

use crate::broker::until;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const BUS: &str = r#"<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>session</type><listen>ADDRESS</listen><auth>EXTERNAL</auth>
<policy context="default"><allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/></policy></busconfig>
"#;

/// What is asked of it is noted, with the phase in which it was.
const BOOTLOADER: &str = r#"#!/bin/sh
cd HERE/boot || exit 1
case $1 in set-*) echo "$* $(sed -n 's/^phase=//p' ../releases/update)" >>asked ;; esac
case $1 in
get-primary) for slot in $(cat order); do [ "$(cat $slot)" -gt 0 ] && echo $slot && exit 0; done; exit 1 ;;
set-primary) [ $2 = A ] && echo A B >order || echo B A >order; echo 3 >$2 ;;
get-state) [ "$(cat $2)" -gt 0 ] && echo good || echo bad ;;
set-state) while [ -f hangs ]; do sleep 0.1; done; [ $3 = good ] && echo 3 >$2 || echo 0 >$2 ;;
esac
"#;

/// What runs goes away without a word; the bootloader starts the first slot that has an attempt left, and again while
/// what is in it does not come up. With a word to it only RAUC goes away, and not who called.
const POWER: &str = r#"#!/bin/sh
cd HERE/boot || exit 1
[ -f pid ] && kill -KILL "$(cat pid)"
up=
while [ -z "$up" ]; do
    slot=$(../bootloader get-primary) || exit 1
    echo $(($(cat $slot) - 1)) >$slot
    [ "$(head -c 10 ../$slot.img)" = unbootable ] || up=$slot
done
echo $up >>booted
[ ! -f ../at-boot ] || . ../at-boot
setsid rauc -c ../system.conf --override-boot-slot=$up service >>../rauc.log 2>&1 &
echo $! >pid
[ -n "$1" ] || kill -KILL $PPID
"#;

pub struct Rauc {
    here: PathBuf,
    bus: Child,
}

impl Rauc {
    pub const COMPATIBLE: &str = "bench-box";

    /// Whether it can run here; says so when it cannot.
    pub fn is_here() -> bool {
        let has =
            |name: &str| ["/usr/bin", "/bin", "/usr/sbin"].iter().any(|folder| Path::new(folder).join(name).exists());
        let programs = ["rauc", "dbus-daemon", "mksquashfs", "openssl", "setsid"];
        // SAFETY: it only tells.
        let is_root = unsafe { libc::geteuid() } == 0;
        let missing = programs.into_iter().find(|name| !has(name)).or((!is_root).then_some("root"));
        let missing = missing.or((!Path::new("/dev/loop-control").exists()).then_some("loop devices"));
        if let Some(missing) = missing {
            println!("left out: operating systems by RAUC (no {missing} here)");
        }
        missing.is_none()
    }

    /// The bus it is on.
    pub fn bus(here: &Path) -> String {
        format!("unix:path={}", here.join("bus").display())
    }

    /// The command that restarts the box.
    pub fn reboot(here: &Path) -> PathBuf {
        here.join("power")
    }

    /// The box runs from slot A, in which RAUC has never written.
    pub fn start(here: &Path) -> Rauc {
        use std::os::unix::fs::PermissionsExt;
        let write = |name: &str, text: &str| {
            let path = here.join(name);
            std::fs::write(&path, text.replace("HERE", here.to_str().unwrap())).unwrap();
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
        };
        std::fs::create_dir(here.join("boot")).unwrap();
        std::fs::create_dir(here.join("mnt")).unwrap();
        for (name, text) in [("order", "A B"), ("A", "3"), ("B", "3"), ("asked", ""), ("booted", "")] {
            write(&format!("boot/{name}"), text);
        }
        write("bootloader", BOOTLOADER);
        write("power", POWER);
        write("bus.conf", &BUS.replace("ADDRESS", &Rauc::bus(here)));
        let slot = |number: usize, name: &str| {
            let image = here.join(format!("{name}.img"));
            std::fs::write(&image, vec![0; 1 << 20]).unwrap();
            format!("[slot.rootfs.{number}]\ndevice={}\ntype=raw\nbootname={name}\n", image.display())
        };
        let slots = slot(0, "A") + &slot(1, "B");
        write(
            "system.conf",
            &format!(
                "[system]\ncompatible={}\nbootloader=custom\nstatusfile=HERE/status\nmountprefix=HERE/mnt\n\
                 [handlers]\nbootloader-custom-backend=HERE/bootloader\n[keyring]\npath=HERE/maker.pem\n{slots}",
                Rauc::COMPATIBLE
            ),
        );
        for name in ["maker", "stranger"] {
            let (key, cert, subject) = (format!("{name}.key"), format!("{name}.pem"), format!("/CN={name}"));
            run(Command::new("openssl")
                .current_dir(here)
                .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes"])
                .args(["-keyout", &key, "-out", &cert, "-days", "2", "-subj", &subject]));
        }
        let bus = Command::new("dbus-daemon")
            .arg(format!("--config-file={}", here.join("bus.conf").display()))
            .args(["--nofork", "--nopidfile"])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        until("the bus is there", || here.join("bus").exists());
        let rauc = Rauc { here: here.to_path_buf(), bus };
        run(rauc.command("/bin/sh").arg(Rauc::reboot(here)).arg("first"));
        until("RAUC is there", || {
            let status = rauc.command("rauc").arg("status").stdout(Stdio::null()).stderr(Stdio::null()).status();
            status.unwrap().success()
        });
        rauc
    }

    /// The power fails and is back, for RAUC and the bootloader.
    pub fn power(&self) {
        run(self.command("/bin/sh").arg(Rauc::reboot(&self.here)).arg("again"));
    }

    /// Whatever boots finds the folder of releases as this slot leaves it: no record can be written in it.
    pub fn cannot_write_in(&self, slot: &str) {
        let script = format!(
            "[ $up = {slot} ] && mkdir -p ../releases/update.new || rmdir ../releases/update.new 2>/dev/null\n:\n"
        );
        std::fs::write(self.here.join("at-boot"), script).unwrap();
    }

    /// From now on the bootloader does not come back from marking a slot; or it does again.
    pub fn hangs(&self, is_so: bool) {
        let file = self.here.join("boot/hangs");
        if is_so { std::fs::write(file, "").unwrap() } else { std::fs::remove_file(file).unwrap() }
    }

    /// What is in a slot does not come up any more.
    pub fn spoil(&self, slot: &str) {
        std::fs::write(self.here.join(format!("{slot}.img")), "unbootable").unwrap();
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.here).env("DBUS_SYSTEM_BUS_ADDRESS", Rauc::bus(&self.here));
        command
    }

    /// A bundle in `site`, signed by this one. What is in it may not come up.
    pub fn bundle(&self, version: &str, maker: &str, comes_up: bool) -> PathBuf {
        let (content, file) =
            (self.here.join(format!("content-{version}")), self.here.join(format!("site/os-{version}.raucb")));
        std::fs::create_dir(&content).unwrap();
        let word = if comes_up { "an operating system" } else { "unbootable" };
        std::fs::write(content.join("rootfs.img"), format!("{word} {version} {}", "x".repeat(100_000))).unwrap();
        let manifest = format!(
            "[update]\ncompatible={}\nversion={version}\n[bundle]\nformat=plain\n[image.rootfs]\nfilename=rootfs.img\n",
            Rauc::COMPATIBLE
        );
        std::fs::write(content.join("manifest.raucm"), manifest).unwrap();
        let (cert, key) = (format!("--cert={maker}.pem"), format!("--key={maker}.key"));
        run(self.command("rauc").args([&cert, &key, "bundle"]).args([&content, &file]).stderr(Stdio::null()));
        file
    }

    /// The slots that were booted, one after another.
    pub fn booted(&self) -> String {
        std::fs::read_to_string(self.here.join("boot/booted")).unwrap().split_whitespace().collect()
    }

    /// What the bootloader was asked to change, and in which phase.
    pub fn asked(&self) -> Vec<String> {
        std::fs::read_to_string(self.here.join("boot/asked")).unwrap().lines().map(str::to_string).collect()
    }

    /// The slots in the order in which the bootloader starts them, and the attempts each has left.
    pub fn order(&self) -> String {
        let read = |name: &str| std::fs::read_to_string(self.here.join("boot").join(name)).unwrap().trim().to_string();
        format!("{}: {} {}", read("order"), read("A"), read("B"))
    }

    /// What is in a slot, the first word of it.
    pub fn holds(&self, slot: &str, text: &str) -> bool {
        std::fs::read(self.here.join(format!("{slot}.img"))).unwrap().starts_with(text.as_bytes())
    }
}

impl Drop for Rauc {
    /// The service ends with its bus.
    fn drop(&mut self) {
        let _ = self.bus.kill();
        let _ = self.bus.wait();
    }
}

fn run(command: &mut Command) {
    let output = command.stdout(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
