//! What a program adds to a configuration that somebody may have written by hand: tables behind what is there, of which
//! no byte changes.

/// The first of `name`, `name-2`, `name-3` ... that is not taken.
pub fn free_name(name: &str, taken: &[&str]) -> String {
    let mut names = std::iter::once(name.to_string()).chain((2_u64..).map(|n| format!("{name}-{n}")));
    names.find(|name| !taken.contains(&name.as_str())).unwrap_or_default()
}

/// The text with these tables behind it.
pub fn added(before: &str, tables: &str) -> String {
    format!("{}\n\n{tables}", before.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_stays_as_it_is() {
        assert_eq!(added("# mine\n[gateway] # here\n\n", "[[link]]\n"), "# mine\n[gateway] # here\n\n[[link]]\n");
        assert_eq!(free_name("ehr", &["lab"]), "ehr");
        assert_eq!(free_name("ehr", &["ehr", "ehr-2"]), "ehr-3");
    }
}
