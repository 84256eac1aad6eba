use super::*;

const CLASS: &str = "1.2.840.10008.5.1.4.1.1.2";

#[test]
fn a_request_is_written_as_the_standard_says() {
    let bytes = Command::echo_request(7).write();
    // The byte string that pynetdicom writes for the same request.
    let expected = "0000000004000000380000000000020012000000312e322e3834302e31303030382e312e310000000001020000003000\
                    00001001020000000700000000080200000001 01";
    let expected: Vec<u8> = expected.bytes().filter(u8::is_ascii_hexdigit).collect();
    let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    assert_eq!(hex.as_bytes(), expected);
}

#[test]
fn what_was_written_is_read_again() {
    let commands = [
        Command::store_request(1, CLASS, "1.2.3"),
        Command::store_request(1, CLASS, "1.2.3").with_move_originator("PACS", 9),
        Command::find_request(2, super::super::uid::MODALITY_WORKLIST),
        Command::get_request(3, CLASS),
        Command::move_request(4, CLASS, "PACS"),
        Command::cancel_request(2),
        Command::create_request(5, CLASS, None),
        Command::set_request(6, CLASS, "1.2.3"),
        Command::attributes_request(7, CLASS, "1.2.3", &[(0x0008, 0x0050), (0x7FE0, 0x0010)]),
        Command::action_request(8, CLASS, "1.2.3", 1),
        Command::event_report_request(9, CLASS, "1.2.3", 2),
        Command::delete_request(10, CLASS, "1.2.3"),
    ];
    for command in commands {
        let bytes = command.write();
        assert_eq!(bytes.len() % 2, 0);
        assert_eq!(Command::read(&bytes).unwrap(), command);
        let response = Command::response(&command, status::PROCESSING_FAILURE).with_error_comment("why");
        assert!(response.is_response() && !response.has_data_set());
        assert_eq!(response.sop_class_uid(), command.sop_class_uid());
        assert_eq!(response.error_comment().as_deref(), Some("why"));
        assert_eq!(Command::read(&response.write()).unwrap(), response);
    }
}

#[test]
fn a_response_names_its_request() {
    let request = Command::action_request(77, CLASS, "1.2.3", 1);
    let response = Command::response(&request, status::SUCCESS);
    assert_eq!(response.field(), field::N_ACTION_RQ | 0x8000);
    assert_eq!((response.message_id_responded_to(), response.status()), (Some(77), Some(0)));
    assert_eq!((response.action_type_id(), response.sop_instance_uid().as_deref()), (Some(1), Some("1.2.3")));
}

#[test]
fn what_is_no_command_set_is_said_to_be_none() {
    let good = Command::echo_request(1).write();
    for cut in 1..good.len() {
        match Command::read(&good[..cut]) {
            Err(CommandFault::Truncated | CommandFault::NoField) | Ok(_) => {}
            other => panic!("cut at {cut}: {other:?}"),
        }
    }
    assert_eq!(Command::read(&[]), Err(CommandFault::NoField));
    assert_eq!(Command::read(&[8, 0, 0x16, 0, 0, 0, 0, 0]), Err(CommandFault::Group));
    assert_eq!(Command::read(&vec![0; COMMAND_MAX + 1]), Err(CommandFault::TooLong));
    let endless = [&[0, 0, 0, 1][..], &u32::MAX.to_le_bytes()].concat();
    assert_eq!(Command::read(&endless), Err(CommandFault::Truncated));
}

#[test]
fn an_error_comment_is_short_and_plain() {
    let request = Command::echo_request(1);
    let comment = Command::response(&request, 0x0110).with_error_comment(&"ü\\".repeat(99)).error_comment().unwrap();
    assert_eq!(comment, "?".repeat(ERROR_COMMENT_MAX));
}
