//! What stands before a colon, and the field it means.

use super::shape::is_clock;

/// Longest label before a `:` or `=`, in characters.
pub(super) const LABEL_MAX: usize = 40;
/// Fields whose label may stand before its text without a colon.
pub(super) const TOLD_WITHOUT_COLON: [&str; 5] = ["specimen_id", "patient_id", "operator", "serial_number", "position"];
/// Labels, reduced to their letters and digits, and the fields they stand for. Those of a specimen id stand in the order
/// of how surely they mean the id and not the kind or the number of the day.
#[rustfmt::skip]
const LABELS: [(&str, &[&str]); 18] = [
    ("specimen_id", &[
        "sampleid", "specimenid", "barcode", "samplebarcode", "sid", "tubeid", "accession", "accessionno", "probenid",
        "idmuestra", "idechantillon", "idamostra", "idcampione", "id", "id1", "idno", "smpl", "smp", "specimenno", "sampleno",
        "samplenumber", "probennr", "probennummer", "tube", "specimen", "sample", "probe", "muestra", "echantillon",
        "amostra", "campione",
    ]),
    ("patient_id", &[
        "patientid", "patid", "pid", "patientno", "mrn", "patno", "idpaciente", "idpatient", "patientennr", "patientennummer",
    ]),
    ("family", &["name", "patientname", "patient", "lastname", "surname", "nom", "apellido", "cognome", "nachname", "paciente"]),
    ("given", &["firstname", "givenname", "vorname", "prenom", "nombre"]),
    ("birth_date", &["dob", "birthdate", "dateofbirth", "born", "geburtsdatum", "datedenaissance", "fechadenacimiento"]),
    ("sex", &["sex", "gender", "geschlecht", "sexe", "sexo", "sesso"]),
    ("operator", &["operator", "operatorid", "opid", "user", "tech", "op", "bediener", "operador", "operateur", "operatore"]),
    ("completed_date", &[
        "date", "testdate", "resultdate", "dateoftest", "analysisdate", "datum", "fecha", "data", "datedanalyse",
    ]),
    ("completed_time", &[
        "time", "testtime", "resulttime", "timeoftest", "analysistime", "zeit", "uhrzeit", "hora", "heure", "ora",
    ]),
    ("completed", &["datetime", "testdatetime", "dateandtime", "analyzed", "analysed", "measured", "datumzeit", "fechahora"]),
    ("test_code", &[
        "test", "testcode", "testname", "assay", "analyte", "parameter", "param", "testid", "code", "prueba", "parametro",
        "analyse", "parametre", "item",
    ]),
    ("value", &[
        "result", "value", "results", "conc", "concentration", "ergebnis", "wert", "resultado", "resultat", "valeur", "risultato",
    ]),
    ("unit", &["unit", "units", "einheit", "unidad", "unidades", "unite", "unites", "unita"]),
    ("flag", &["flag", "flags", "alarm", "abn"]),
    ("reference_range", &[
        "range", "refrange", "reference", "referencerange", "normalrange", "ref", "normals", "normalwerte", "referenz",
    ]),
    ("position", &["rack", "pos", "position", "cup", "tray", "well", "rackpos"]),
    ("serial_number", &["serial", "serialno", "serialnumber", "instrumentsn", "sn"]),
    ("comment", &["comment", "comments", "remark", "remarks", "note", "notes", "kommentar", "commentaire", "comentario"]),
];

pub(in super::super) fn label(text: &str) -> Option<&'static str> {
    ranked_label(text).map(|(field, _)| field)
}

/// The field a label stands for, and its place among the labels of this field.
pub(super) fn ranked_label(text: &str) -> Option<(&'static str, usize)> {
    let reduced: String = text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect();
    // Accents are left out on many a printer and written on others.
    let reduced: String = reduced
        .chars()
        .map(|c| match c {
            'é' | 'è' => 'e',
            'ó' => 'o',
            'á' | 'à' => 'a',
            'ú' => 'u',
            'ñ' => 'n',
            other => other,
        })
        .collect();
    LABELS.iter().find_map(|(field, labels)| Some((*field, labels.iter().position(|label| *label == reduced)?)))
}

/// The field that the last one or two words before a text stand for, and how many they are.
pub(super) fn told_without_colon(name: &[&str]) -> Option<(&'static str, usize)> {
    [2, 1].into_iter().filter(|length| *length <= name.len()).find_map(|length| {
        let field = label(&name.get(name.len() - length..)?.join(" "))?;
        TOLD_WITHOUT_COLON.contains(&field).then_some((field, length))
    })
}

/// What stands before and behind the first `:` or `=` that separates: not that of `>=` nor that of a time of day.
pub(super) fn name_and_said(piece: &str) -> Option<(&str, &str)> {
    let separates = |(at, c): &(usize, char)| {
        matches!(c, '=' | ':') && !piece.get(..*at).is_some_and(|before| before.ends_with(['<', '>', '!']))
    };
    let (at, _) = piece.char_indices().find(separates).filter(|(at, _)| (1..=LABEL_MAX).contains(at))?;
    let (name, said) = piece.get(..at).zip(piece.get(at + 1..))?;
    let is_name = name.chars().any(char::is_alphabetic) && !is_clock(name);
    is_name.then(|| (name.trim(), said.trim_start_matches(['=', ':']).trim()))
}
