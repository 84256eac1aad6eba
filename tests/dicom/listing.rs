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

#[test]
fn images_that_are_safe_here_alone_are_listed_and_given_up_by_a_person() {
    let mut site = Site::new("[[destination]]\nname = \"ehr\"\naddress = \"127.0.0.1:9\"\n");
    site.start();
    let address = site.address();
    let modality = ["sim", "modality", &address, "--called", AE_TITLE, "--kind", "ct", "--objects", "3"];
    let stored = afferent(&[&modality[..], &["--commit", "30"]].concat());
    assert!(stored.status.success(), "{stored:?}");
    let config = site.path("box.toml").display().to_string();
    let journal = |more: &[&str]| {
        let told = afferent(&[&["journal", "--config", &config][..], more].concat());
        assert!(told.status.success(), "{told:?}");
        String::from_utf8(told.stdout).unwrap()
    };
    let listed = || serde_json::from_str::<Value>(&journal(&["hold", "--images", "--json"])).unwrap();
    let images = listed();
    assert_eq!((images.as_array().unwrap().len(), &images[0]["study"]), (3, &json!(1)), "{images}");
    assert!(journal(&["hold", "--images"]).starts_with("entry  study  link"));
    let stats = journal(&["stats"]);
    assert!(
        stats.contains("\n3 images are safe as their modality was told") && stats.contains("hold --images"),
        "{stats}"
    );
    let (entry, reason) = (images[0]["entry"].to_string(), ["--reason", "copied by hand"]);
    assert_eq!(journal(&[&["discard", "--image", &entry][..], &reason].concat()), "1 discarded\n");
    assert!(journal(&["show", &entry]).contains("need not be kept here any more: copied by hand\n"));
    assert_eq!(journal(&[&["discard", "--study", "1"][..], &reason].concat()), "2 discarded\n");
    assert_eq!((listed(), journal(&["hold", "--images"]).as_str()), (json!([]), "no image is safe here alone\n"));
}
