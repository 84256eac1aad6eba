//! The way between box and broker, which can be bad in every way a network can.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Way {
    /// Everything passes.
    Open,
    /// Connections are closed at once.
    Closed,
    /// Connections are taken, and nothing passes.
    Hanging,
    /// What the box says passes; what the broker says does not.
    Deaf,
    /// Connections are reset as soon as something was said.
    Resetting,
}

/// A relay that ends with the test program.
pub struct Line {
    pub port: u16,
    way: Arc<AtomicU8>,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Line {
    pub fn to(broker: u16) -> Line {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let way = Arc::new(AtomicU8::new(Way::Open as u8));
        let open: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
        let (is, held) = (way.clone(), open.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                relay(stream, broker, &is, &held);
            }
        });
        Line { port, way, open }
    }

    /// From now on it is so; connections that are open are broken, unless they only go deaf.
    pub fn becomes(&self, way: Way) {
        self.way.store(way as u8, Ordering::SeqCst);
        if way != Way::Deaf {
            for stream in self.open.lock().unwrap().drain(..) {
                let _ = stream.shutdown(Shutdown::Both);
            }
        }
    }
}

fn relay(near: TcpStream, broker: u16, way: &Arc<AtomicU8>, open: &Arc<Mutex<Vec<TcpStream>>>) {
    let is = |wanted: Way| way.load(Ordering::SeqCst) == wanted as u8;
    open.lock().unwrap().push(near.try_clone().unwrap());
    if is(Way::Closed) {
        return drop(near.shutdown(Shutdown::Both));
    }
    if is(Way::Hanging) {
        return;
    }
    let Ok(far) = TcpStream::connect((Ipv4Addr::LOCALHOST, broker)) else { return drop(near.shutdown(Shutdown::Both)) };
    open.lock().unwrap().push(far.try_clone().unwrap());
    for (mut from, mut to, is_answer) in
        [(near.try_clone().unwrap(), far.try_clone().unwrap(), false), (far, near, true)]
    {
        let way = way.clone();
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(length @ 1..) = from.read(&mut bytes) {
                let now = way.load(Ordering::SeqCst);
                while is_answer && way.load(Ordering::SeqCst) == Way::Deaf as u8 {
                    std::thread::sleep(Duration::from_millis(10));
                }
                let is_broken = now == Way::Resetting as u8 && is_answer;
                if is_broken || to.write_all(&bytes[..length]).is_err() {
                    break;
                }
            }
            let _ = (to.shutdown(Shutdown::Both), from.shutdown(Shutdown::Both));
        });
    }
}
