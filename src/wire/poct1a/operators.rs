//! The people who may use a device: the operator list a host sends (`OPL.R01`).

/// Most operators of one list; a hospital group has some thousands.
pub const OPERATORS_MAX: usize = 50_000;
/// Longest field, in characters; the standard's own are shorter.
const FIELD_MAX_CHARS: usize = 120;

/// One operator.
#[derive(Clone, PartialEq, Eq)]
pub struct Operator {
    /// `OPR.operator_id`: what the badge says. It may contain blanks.
    pub id: String,
    /// `OPR.name`; may be empty.
    pub name: String,
    /// `ACC.permission_level_cd`; may be empty.
    pub permission: String,
}

impl std::fmt::Debug for Operator {
    /// Prints nobody's name.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Operator")
    }
}

/// Reads a list: one operator a line, `id;name;permission level`, the last two optional; `#` begins a comment.
///
/// # Errors
/// The line, from 1, and what is wrong with it.
pub fn parse(text: &str) -> Result<Vec<Operator>, (usize, &'static str)> {
    let mut operators: Vec<Operator> = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for (at, line) in text.lines().enumerate().map(|(at, line)| (at + 1, line.trim())) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let mut fields = line.split(';').map(str::trim);
        let mut field = || fields.next().unwrap_or("").to_string();
        let operator = Operator { id: field(), name: field(), permission: field() };
        let longest = [&operator.id, &operator.name, &operator.permission].into_iter().map(|f| f.chars().count()).max();
        let wrong = match () {
            () if operator.id.is_empty() => Some("an operator without an id"),
            () if fields.next().is_some() => Some("more than id;name;permission level"),
            () if longest > Some(FIELD_MAX_CHARS) => Some("a field of more than 120 characters"),
            () if !seen.insert(operator.id.clone()) => Some("an id that is there already"),
            () if operators.len() >= OPERATORS_MAX => Some("more than 50000 operators"),
            () => None,
        };
        match wrong {
            Some(wrong) => return Err((at, wrong)),
            None => operators.push(operator),
        }
    }
    Ok(operators)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_line_by_line_and_a_wrong_line_is_named() {
        let read = parse("# the ward\n\nNURSE 7; Roe, R ;2\nAB-1\n").unwrap();
        let told: Vec<_> = read.iter().map(|o| (o.id.as_str(), o.name.as_str(), o.permission.as_str())).collect();
        assert_eq!(told, [("NURSE 7", "Roe, R", "2"), ("AB-1", "", "")]);
        assert!(!format!("{read:?}").contains("Roe"));
        for (text, line) in [("A\nA", 2), (";x", 1), ("A;b;c;d", 1), (&"x".repeat(121), 1)] {
            assert_eq!(parse(text).unwrap_err().0, line, "{text}");
        }
    }
}
