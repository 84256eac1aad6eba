//! Unique identifiers of SOP classes, transfer syntaxes and well-known instances (PS3.6 Annex A), and what is one.

/// Longest UID, in characters (PS3.5 section 9).
pub const UID_MAX: usize = 64;

/// The DICOM application context.
pub const APPLICATION_CONTEXT: &str = "1.2.840.10008.3.1.1.1";

/// Names this program in associations and file headers (PS3.7 Annex D.3.3.2). It was made once from a random UUID
/// (PS3.5 Annex B.2) and stays.
pub const IMPLEMENTATION_CLASS: &str = "2.25.3691820866174569340971497439241513733";
/// The same for people; at most 16 characters.
pub const IMPLEMENTATION_VERSION_NAME: &str = concat!("AFFERENT_", env!("CARGO_PKG_VERSION"));

/// Verification SOP class.
pub const VERIFICATION: &str = "1.2.840.10008.1.1";
/// Modality Worklist Information Model, FIND.
pub const MODALITY_WORKLIST: &str = "1.2.840.10008.5.1.4.31";
/// Modality Performed Procedure Step SOP class.
pub const PERFORMED_PROCEDURE_STEP: &str = "1.2.840.10008.3.1.2.3.3";
/// Storage Commitment Push Model SOP class.
pub const STORAGE_COMMITMENT: &str = "1.2.840.10008.1.20.1";
/// The one instance of [`STORAGE_COMMITMENT`].
pub const STORAGE_COMMITMENT_INSTANCE: &str = "1.2.840.10008.1.20.1.1";

/// Implicit VR Little Endian, which everybody speaks.
pub const IMPLICIT_VR_LITTLE_ENDIAN: &str = "1.2.840.10008.1.2";
/// Explicit VR Little Endian.
pub const EXPLICIT_VR_LITTLE_ENDIAN: &str = "1.2.840.10008.1.2.1";
/// Explicit VR Big Endian, retired.
pub const EXPLICIT_VR_BIG_ENDIAN: &str = "1.2.840.10008.1.2.2";

/// Root of the UIDs that the standard itself gives out; everything else is private.
const STANDARD: &str = "1.2.840.10008.";
/// Roots below which the standard's storage SOP classes stand.
const STORAGE_ROOTS: [&str; 1] = ["1.2.840.10008.5.1.4.1.1."];
/// Storage SOP classes that stand elsewhere: hardcopy (retired), hanging protocol, colour palette, implant templates,
/// radiotherapy instructions, protocols.
const STORAGE_ELSEWHERE: [&str; 10] = [
    "1.2.840.10008.5.1.1.29",
    "1.2.840.10008.5.1.1.30",
    "1.2.840.10008.5.1.4.34.1",
    "1.2.840.10008.5.1.4.34.7",
    "1.2.840.10008.5.1.4.34.10",
    "1.2.840.10008.5.1.4.38.1",
    "1.2.840.10008.5.1.4.39.1",
    "1.2.840.10008.5.1.4.43.1",
    "1.2.840.10008.5.1.4.44.1",
    "1.2.840.10008.5.1.4.45.1",
];
/// Inventory services that stand below the root of the storage classes without being one.
const NOT_STORAGE: &str = "1.2.840.10008.5.1.4.1.1.201.";
/// The inventory itself, which is stored.
const INVENTORY: &str = "1.2.840.10008.5.1.4.1.1.201.1";

/// True for text that may stand as a UID: digits and dots, 1 to 64 of them. A component with a leading zero breaks the
/// rules too, but modalities make such and they harm nobody.
pub fn is_uid(text: &str) -> bool {
    (1..=UID_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit() || b == b'.')
}

/// True for a SOP class whose instances are stored: the standard's, also those of a later edition, and every private
/// one, for what else would a private class be for.
pub fn is_storage_class(uid: &str) -> bool {
    if !is_uid(uid) {
        return false;
    }
    if !uid.starts_with(STANDARD) {
        return true;
    }
    let below_a_root = STORAGE_ROOTS.iter().any(|root| uid.starts_with(root));
    (below_a_root && (uid == INVENTORY || !uid.starts_with(NOT_STORAGE))) || STORAGE_ELSEWHERE.contains(&uid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uid_is_digits_and_dots_and_no_path() {
        let longest = "1".repeat(UID_MAX);
        assert!(is_uid("1.2.840.10008.1.1") && is_uid("1.02.3") && is_uid(&longest));
        for wrong in ["", "../../etc", "1.2/3", "1.2.x", "1.2 ", &"1".repeat(UID_MAX + 1)] {
            assert!(!is_uid(wrong), "{wrong:?}");
        }
    }

    #[test]
    fn storage_is_what_can_be_stored() {
        for class in ["1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.88.33", "1.2.840.113619.4.27", INVENTORY] {
            assert!(is_storage_class(class), "{class}");
        }
        let services = ["1.2.840.10008.5.1.4.1.2.2.1", "1.2.840.10008.5.1.4.1.1.201.2", "1.2.840.10008.5.1.1.9", ""];
        for class in services.into_iter().chain([VERIFICATION, MODALITY_WORKLIST, "1.2.840.10008.5.1.4.1.1.x"]) {
            assert!(!is_storage_class(class), "{class}");
        }
    }
}
