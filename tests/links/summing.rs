//! An instrument that sums its frames its own way, on a link whose driver allows that.

use afferent::config;
use afferent::gateway::Gateway;
use afferent::wire::astm::{ACK, ENQ, EOT, NAK, STX, encode_frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::rig::{Rig, free_port, health, link, listen, local, until};

const DRIVER: &str = "[identity]\nvendor = \"Acme\"\nmodel = \"One\"\nprotocol = \"astm\"\n\
                      [wire]\nchecksum = [\"code-points\"]\n";

/// A whole message in one frame whose sum is over characters, though the micro sign takes two bytes.
fn frame() -> Vec<u8> {
    let body = "1H|\\^&|||Acme^One\rO|1|S0001\rR|1|^^^GLU|5.0|\u{b5}mol/L\rL|1|N\r\u{3}";
    let sum = body.chars().fold(0, |sum: u8, c| sum.wrapping_add(c as u8));
    [&[STX], body.as_bytes(), format!("{sum:02X}\r\n").as_bytes()].concat()
}

async fn say(stream: &mut TcpStream, bytes: &[u8]) -> u8 {
    stream.write_all(bytes).await.unwrap();
    stream.read_u8().await.unwrap()
}

#[tokio::test]
async fn a_checksum_rule_is_taken_up_where_the_driver_allows_it_and_never_silently() {
    let rig = Rig::new().await;
    let folder = rig.path("drivers/acme-one");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("driver.toml"), DRIVER).unwrap();
    let (allowed, strict) = (free_port(), free_port());
    let links = link("allowed", "astm", &format!("{}\ndriver = \"acme-one\"", listen(allowed)))
        + &link("strict", "astm", &listen(strict));
    let drivers = format!("[gateway]\ndrivers = {:?}", rig.path("drivers"));
    let text = rig.text(&links).replace("[gateway]", &drivers);
    let gateway = Gateway::start(&config::parse("rig.toml", &text).unwrap().config).await.unwrap();

    for (name, port, third) in [("allowed", allowed, ACK), ("strict", strict, NAK)] {
        let mut stream = TcpStream::connect(local(port)).await.unwrap();
        let answers = [
            say(&mut stream, &[ENQ]).await,
            say(&mut stream, &frame()).await,
            say(&mut stream, &frame()).await,
            say(&mut stream, &frame()).await,
        ];
        assert_eq!(answers, [ACK, NAK, NAK, third], "{name}");
        stream.write_all(&[EOT]).await.unwrap();
    }
    until("the message is complete", || health(&gateway, "allowed").messages == 1).await;
    let counted = |link: &str, reason: &str| health(&gateway, link).reasons.get(reason).copied().unwrap_or(0);
    for (reason, on_allowed) in [
        ("checksum fits a sum over characters, not bytes", 1),
        ("checksum rule taken up from the next frame on, as the driver allows", 1),
        ("frame taken by the instrument's own checksum rule", 1),
    ] {
        assert_eq!(counted("allowed", reason), on_allowed, "{reason}");
    }
    assert_eq!(counted("strict", "checksum fits a sum over characters, not bytes"), 1, "named on any link");
    assert_eq!(health(&gateway, "strict").messages, 0, "and taken up only where the driver allows it");

    let mut stream = TcpStream::connect(local(strict)).await.unwrap();
    assert_eq!(say(&mut stream, &[ENQ]).await, ACK);
    assert_eq!(say(&mut stream, &encode_frame(1, b"H|\\^&\rL|1\r", true)).await, ACK);
    gateway.stop().await;
}
