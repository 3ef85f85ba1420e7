//! The metrics of the gateway that commands show.

/// The series of a metric: its labels and its value.
pub(super) fn series<'a>(
    page: &'a str,
    name: &'a str,
) -> impl Iterator<Item = (&'a str, &'a str)> + 'a {
    page.lines().filter_map(move |line| {
        let (labels, value) = line
            .strip_prefix(name)?
            .strip_prefix('{')?
            .rsplit_once("} ")?;
        Some((labels, value))
    })
}

/// The value of a label in `name="value"`.
pub(super) fn label<'a>(labels: &'a str, name: &str) -> Option<&'a str> {
    let at = labels.find(&format!("{name}=\""))? + name.len() + 2;
    labels[at..].split('"').next()
}

/// The provider keys that providers refuse.
pub(super) fn refused_keys(page: &str) -> Vec<String> {
    let refused = series(page, "weir_provider_key_refused").filter(|(_, value)| *value == "1");
    let names = refused.filter_map(|(labels, _)| label(labels, "provider_key"));
    let mut names: Vec<String> = names.map(str::to_owned).collect();
    names.sort_unstable();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_are_read_with_their_labels() {
        let page = "# HELP x\nweir_provider_key_refused{provider_key=\"a#1\"} 0\n\
                    weir_provider_key_refused{provider_key=\"a#b\"} 1\nweir_other 3\n";
        assert_eq!(refused_keys(page), ["a#b"]);
        assert_eq!(
            label("deployment=\"a/b\",state=\"open\"", "state"),
            Some("open")
        );
    }
}
