//! `afferent journal studies`, as a person reads it who asks where the images of a study are.

use crate::peers::{afferent, until};
use crate::site::{AE_TITLE, Site};
use serde_json::{Value, json};

#[test]
fn studies_say_how_many_images_are_where_and_name_those_that_are_not() {
    let mut pacs = Site::new("[[destination]]\nname = \"away\"\naddress = \"127.0.0.1:9\"\n");
    let mut site = Site::new(&format!(
        "[[destination]]\nname = \"pacs\"\nprotocol = \"dicom\"\naddress = \"{}\"\ncalled_ae_title = \"{AE_TITLE}\"\n\
         [[destination]]\nname = \"vna\"\nprotocol = \"dicom\"\naddress = \"127.0.0.1:9\"\ncalled_ae_title = \"VNA\"\n",
        pacs.address()
    ));
    pacs.start();
    site.start();
    let stored =
        afferent(&["sim", "modality", &site.address(), "--called", AE_TITLE, "--kind", "ct", "--objects", "12"]);
    assert!(stored.status.success(), "{stored:?}");
    let config = site.path("box.toml").display().to_string();
    let studies = |more: &[&str]| afferent(&[&["journal", "studies", "--config", &config][..], more].concat()).stdout;
    let detail = || serde_json::from_slice::<Value>(&studies(&["1", "--json"])).unwrap()[0].clone();
    until("the PACS has them", || detail()["went"]["pacs"] == json!({ "delivered": 12 }));
    assert_eq!(detail()["went"]["vna"], json!({ "pending": 12 }));
    let read = |more: &[&str]| String::from_utf8(studies(more)).unwrap();
    let short = read(&["1"]);
    assert!(short.contains("  pacs: 12 delivered\n  vna: 12 pending\n"), "{short}");
    assert_eq!(short.matches("  image ").count(), 10, "{short}");
    assert!(short.contains("and 2 more that are not delivered everywhere"), "{short}");
    assert_eq!(read(&["1", "--images"]).matches("  image ").count(), 12);
}
