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
        let value = self.report.supported(value, is_supported, feature);
        self.put_some(key, value);
    }

    /// A parameter of sampling that the model takes, or else lacks. Its default value says nothing,
    /// so it is left out where it would be refused.
    pub(crate) fn put_sampling(
        &mut self,
        key: &str,
        value: Option<f64>,
        is_taken: bool,
        feature: Feature,
    ) {
        let value = self.report.sampling(value, is_taken, feature);
        self.put_some(key, value);
    }

    /// How long the answer's text is to be, if the model lets anybody say.
    pub(crate) fn verbosity<'t, 'a>(
        &mut self,
        asked: Option<&'t Text<'a>>,
        is_taken: bool,
    ) -> Option<&'t Text<'a>> {
        let taken = asked.filter(|word| is_taken || word.is("medium"));
        self.approximated_if(taken != asked, Feature::Verbosity);
        taken
    }

    /// Stop sequences, as many as the model takes.
    pub(crate) fn put_stop(&mut self, key: &str, stop: &[Text<'_>], most: usize) {
        if stop.len() > most && most > 0 {
            let many = format!("more than {most}");
            self.report.unsupported_kind(Feature::Stop, &many);
        } else {
            self.unsupported_if(stop.len() > most, Feature::Stop);
        }
        self.put_list(key, &stop[..stop.len().min(most)]);
    }

    /// The limit on an answer's tokens, between the API's least and the model's own.
    pub(crate) fn token_limit(
        &mut self,
        asked: Option<u64>,
        least: u64,
        most: Option<u64>,
    ) -> Option<u64> {
        self.report.token_limit(asked, least, most)
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

/// The default of temperature and `top_p`, at every vendor that refuses another one.
pub(crate) fn is_default(value: f64) -> bool {
    (value - 1.0).abs() < f64::EPSILON
}
