//! Command sets as other implementations write them.

use crate::corpus;
use afferent::wire::dimse::Command;
use afferent::wire::dimse::command::{field, status};

/// The corpus holds one byte of PDV header before each command set.
#[test]
fn command_sets_of_other_implementations_are_read_and_written_byte_for_byte() {
    let Some(folder) = corpus::folder("dicom") else { return println!("no corpus on this machine") };
    let mut read = 0;
    for file in std::fs::read_dir(folder.join("dimse")).unwrap().map(|entry| entry.unwrap().path()) {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        if !name.contains("_cmd") {
            continue;
        }
        let bytes = std::fs::read(&file).unwrap();
        let command = Command::read(&bytes[1..]).unwrap_or_else(|fault| panic!("{name}: {fault}"));
        let kind = match name.split_once("_r").unwrap().0 {
            "c_echo" => field::C_ECHO_RQ,
            "c_find" => field::C_FIND_RQ,
            "c_get" => field::C_GET_RQ,
            "c_move" => field::C_MOVE_RQ,
            "c_store" => field::C_STORE_RQ,
            "n_action" => field::N_ACTION_RQ,
            "n_create" => field::N_CREATE_RQ,
            "n_delete" => field::N_DELETE_RQ,
            "n_er" => field::N_EVENT_REPORT_RQ,
            "n_get" => field::N_GET_RQ,
            "n_set" => field::N_SET_RQ,
            other => panic!("{other} is new"),
        };
        assert_eq!(command.field() & 0x7FFF, kind, "{name}");
        assert_eq!(command.is_response(), name.contains("_rsp_"), "{name}");
        assert_eq!(command.is_response(), command.status().is_some(), "{name}");
        assert_eq!(command.message_id_responded_to().is_some(), command.is_response(), "{name}");
        // One file has a group length that is wrong on purpose, everything else comes out as it went in.
        if !name.contains("with_dup") {
            assert_eq!(command.write(), bytes[1..], "{name}");
        }
        read += 1;
    }
    assert_eq!(read, 26);
}

#[test]
fn the_elements_of_a_command_set_are_where_others_put_them() {
    let Some(folder) = corpus::folder("dicom") else { return println!("no corpus on this machine") };
    let command = |name: &str| Command::read(&std::fs::read(folder.join("dimse").join(name)).unwrap()[1..]).unwrap();
    let store = command("c_store_rq_cmd.bin");
    assert_eq!(store.sop_class_uid().as_deref(), Some("1.1.1"));
    assert_eq!(store.sop_instance_uid().as_deref(), Some("1.2.1"));
    assert_eq!((store.message_id(), store.priority(), store.has_data_set()), (7, 2, true));
    assert_eq!(store.move_originator_ae_title().as_deref(), Some("UNITTEST"));
    assert_eq!(store.move_originator_message_id(), Some(3));
    assert_eq!(command("c_move_rq_cmd.bin").move_destination().as_deref(), Some("MOVE_SCP"));
    let find = command("c_find_rsp_cmd.bin");
    assert_eq!((find.status(), find.has_data_set()), (Some(status::PENDING), true));
    assert!(!command("c_echo_rq_cmd.bin").has_data_set());
    assert_eq!(command("n_action_rq_cmd.bin").action_type_id(), Some(1));
    assert_eq!(command("n_er_rq_cmd.bin").event_type_id(), Some(2));
    let tags = [(0x7FE0, 0x0010), (0x0000, 0x0000), (0xFFFF, 0xFFFF)];
    assert_eq!(command("n_get_rq_cmd.bin").attribute_identifiers(), tags);
    assert_eq!(command("n_create_rq_cmd_empty.bin").sop_instance_uid(), None);
    assert_eq!(command("n_delete_rsp_cmd.bin").status(), Some(0xC201));
}
