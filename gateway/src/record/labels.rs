//! What an application says a call is for: customer, feature and free tags.
//!
//! They come from headers (`x-weir-customer`, `x-weir-feature`, `x-weir-tag-NAME`, W3C `baggage`)
//! and from the request's `metadata`. Whatever is too much or too long is left out or cut: labels
//! never make a request fail, and never make an event large.

use crate::caps::{BAGGAGE_ENTRIES_MAX, LABEL_VALUE_BYTES_MAX, TAG_NAME_BYTES_MAX, TAGS_MAX};
use http::HeaderMap;
use percent_encoding::percent_decode_str;
use weir_dialects::RequestFacts;
use weir_schemas::event::Tags;

const TAG_HEADER: &str = "x-weir-tag-";

/// Customer, feature and tags of a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Labels {
    pub(crate) customer: Option<String>,
    pub(crate) feature: Option<String>,
    /// Sorted by name, so that equal tags are equal in SQL. The first value of a name counts.
    tags: Vec<(String, String)>,
}

impl Labels {
    /// Reads the headers. What a header says goes before what the body says.
    pub(crate) fn from_headers(headers: &HeaderMap) -> Self {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let mut labels = Self {
            customer: text("x-weir-customer").and_then(value),
            feature: text("x-weir-feature").and_then(value),
            tags: Vec::new(),
        };
        for (name, content) in headers {
            if let (Some(tag), Ok(content)) =
                (name.as_str().strip_prefix(TAG_HEADER), content.to_str())
            {
                labels.tag(tag, content);
            }
        }
        let baggage = headers.get_all("baggage").into_iter();
        let entries = baggage
            .filter_map(|value| value.to_str().ok())
            .flat_map(|list| list.split(','));
        for entry in entries.take(BAGGAGE_ENTRIES_MAX) {
            // Properties of an entry stand behind a semicolon.
            let entry = entry.split(';').next().unwrap_or("");
            if let Some((name, content)) = entry.split_once('=') {
                labels.name(
                    name.trim(),
                    &percent_decode_str(content.trim()).decode_utf8_lossy(),
                );
            }
        }
        labels
    }

    /// Adds what the request's body says.
    pub(crate) fn add_body(&mut self, facts: &RequestFacts) {
        for (name, content) in &facts.metadata {
            if name != "user_id" {
                self.name(name, content);
            }
        }
        if self.customer.is_none() {
            self.customer = facts.user.as_deref().and_then(value);
        }
    }

    pub(crate) fn tags(&self) -> Tags<'_> {
        let tags = self.tags.iter();
        Tags(
            tags.map(|(name, value)| (name.as_str(), value.as_str()))
                .collect(),
        )
    }

    /// Puts a named value where it belongs, unless something is there.
    fn name(&mut self, name: &str, content: &str) {
        let place = match name.strip_prefix("weir.").unwrap_or(name) {
            "customer" | "customer_id" => &mut self.customer,
            "feature" => &mut self.feature,
            _ => return self.tag(name, content),
        };
        if place.is_none() {
            *place = value(content);
        }
    }

    fn tag(&mut self, name: &str, content: &str) {
        let is_name = !name.is_empty()
            && name.len() <= TAG_NAME_BYTES_MAX
            && name.bytes().all(|byte| byte.is_ascii_graphic());
        let place = self
            .tags
            .binary_search_by(|(known, _)| known.as_str().cmp(name));
        if is_name
            && let Err(place) = place
            && self.tags.len() < TAGS_MAX
            && let Some(content) = value(content)
        {
            self.tags.insert(place, (name.to_owned(), content));
        }
    }
}

/// A value as it is kept: without control characters, and not too long. `None` if nothing is left.
fn value(text: &str) -> Option<String> {
    let cut = &text[..text.floor_char_boundary(LABEL_VALUE_BYTES_MAX)];
    let kept: String = cut.chars().filter(|c| !c.is_control()).collect();
    let kept = kept.trim();
    (!kept.is_empty()).then(|| kept.to_owned())
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            headers.append(HeaderName::from_static(name), value);
        }
        headers
    }

    fn facts(user: Option<&str>, metadata: &[(&str, &str)]) -> RequestFacts {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        let mut facts = RequestFacts::default();
        facts.user = user.map(str::to_owned);
        facts.metadata = metadata.iter().map(owned).collect();
        facts
    }

    #[test]
    fn headers_go_before_baggage_and_baggage_before_the_body() {
        let mut labels = Labels::from_headers(&headers(&[
            ("x-weir-customer", "c1"),
            ("x-weir-tag-run", "nightly"),
            (
                "baggage",
                "weir.customer=c2,feature=on%20boarding;p=1, zone = eu ",
            ),
        ]));
        labels.add_body(&facts(
            Some("c3"),
            &[("feature", "x"), ("run", "y"), ("team", "t")],
        ));
        assert_eq!(labels.customer.as_deref(), Some("c1"));
        assert_eq!(labels.feature.as_deref(), Some("on boarding"));
        assert_eq!(
            labels.tags().0,
            [("run", "nightly"), ("team", "t"), ("zone", "eu")]
        );
        let mut labels = Labels::default();
        labels.add_body(&facts(Some("c3"), &[("user_id", "c3")]));
        assert_eq!(
            (labels.customer.as_deref(), labels.tags().0.len()),
            (Some("c3"), 0)
        );
    }

    #[test]
    fn tags_are_the_same_in_whatever_order_they_come() {
        let names = ["zone", "Run", "run", "a.b", "app", "é"];
        let expected: Vec<_> = ["Run", "a.b", "app", "run", "zone"]
            .map(|name| (name, "1"))
            .into();
        for rotation in 0..names.len() {
            let mut turned = names;
            turned.rotate_left(rotation);
            let pairs: Vec<_> = turned.iter().map(|name| (*name, "1")).collect();
            // A name that comes again changes nothing.
            let again: Vec<_> = turned.iter().map(|name| (*name, "2")).collect();
            let mut labels = Labels::default();
            labels.add_body(&facts(None, &[pairs, again].concat()));
            assert_eq!(labels.tags().0, expected);
        }
    }

    #[test]
    fn hostile_labels_stay_small_and_harmless() {
        let many: Vec<String> = (0..1000).map(|n| format!("k{n}=v")).collect();
        let long = "é".repeat(10_000);
        let labels = Labels::from_headers(&headers(&[
            ("baggage", &many.join(",")),
            ("baggage", "=,==,%,%f,%zz=%,a=%ff%fe"),
            ("x-weir-customer", "\u{80}\u{9f}"),
        ]));
        assert_eq!(labels.tags().0.len(), TAGS_MAX);
        let mut labels = Labels::default();
        labels.add_body(&facts(
            None,
            &[
                ("customer", &long),
                (&long, "x"),
                ("n", "a\u{1f}b\nc"),
                ("", "e"),
            ],
        ));
        assert!(labels.customer.unwrap().len() <= LABEL_VALUE_BYTES_MAX);
        assert_eq!(labels.tags, [("n".to_owned(), "abc".to_owned())]);
    }
}
