//! What the writers of requests share.

use super::{Feature, LossReport, Part, joined_text, with_marks};
use crate::json::{Text, ToJson, Writer};

/// Writes a request, and reports what the target lacks.
pub(crate) type RequestWriter<'r> = Writer<&'r mut LossReport>;

impl RequestWriter<'_> {
    pub(crate) fn unsupported_if(&mut self, is_asked: bool, feature: Feature) {
        if is_asked {
            self.report.unsupported(feature);
        }
    }

    pub(crate) fn approximated_if(&mut self, is_asked: bool, feature: Feature) {
        if is_asked {
            self.report.approximated(feature);
        }
    }

    /// A value that the target takes, or else lacks.
    pub(crate) fn put_supported(
        &mut self,
        key: &str,
        value: Option<impl ToJson>,
        is_supported: bool,
        feature: Feature,
    ) {
        match value {
            Some(value) if is_supported => self.put(key, value),
            Some(_) => self.report.unsupported(feature),
            None => {}
        }
    }

    /// A value that the target takes, or else does without.
    pub(crate) fn put_fitting(
        &mut self,
        key: &str,
        value: Option<impl ToJson>,
        fits: bool,
        feature: Feature,
    ) {
        match value {
            Some(value) if fits => self.put(key, value),
            Some(_) => self.report.approximated(feature),
            None => {}
        }
    }

    pub(crate) fn put_cache_control(&mut self, mark: Option<&str>) {
        if let Some(mark) = mark {
            self.put_raw("cache_control", mark);
        }
    }

    /// The text of parts: one string, or blocks if something in it is marked.
    pub(crate) fn put_text<'p, 'a: 'p>(
        &mut self,
        key: &str,
        parts: impl Iterator<Item = &'p Part<'a>> + Clone,
    ) {
        if !parts.clone().any(|part| matches!(part, Part::CacheMark(_))) {
            return self.put(key, joined_text(parts));
        }
        let texts =
            parts.filter(|part| part.as_text().is_some() || matches!(part, Part::CacheMark(_)));
        self.put_each(key, with_marks(texts), |w, (part, mark)| {
            if let Some(text) = part.as_text() {
                w.text_block(text, mark);
            }
        });
    }

    /// A block of text, as chat and messages have it.
    pub(crate) fn text_block(&mut self, text: &Text<'_>, mark: Option<&str>) {
        self.typed("text", |w| {
            w.put("text", text);
            w.put_cache_control(mark);
        });
    }
}
