//! Usage without overlaps: each token in the one part that it is priced by.

use super::Unit;
use crate::Usage;

/// Tokens of one price.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PricedPart {
    pub(super) tokens: u64,
    pub(super) unit: Unit,
}

impl PricedPart {
    const fn new(tokens: u64, unit: Unit) -> Self {
        Self { tokens, unit }
    }
}

/// Tokens of one kind that may have been cached.
struct CacheableTokens {
    fresh: u64,
    cached: u64,
    is_reported: bool,
}

impl CacheableTokens {
    fn new(all: Option<u64>, cached: Option<u64>) -> Self {
        let (all, known) = (all.unwrap_or(0), cached.unwrap_or(0));
        Self {
            fresh: all.saturating_sub(known),
            cached: known,
            is_reported: cached.is_some(),
        }
    }

    /// Where the cached ones were not reported, some must be among the cached ones of all kinds if
    /// the parts exceed the whole without that.
    fn overlap(&mut self, cached: &mut u64, excess: &mut u64) {
        if !self.is_reported {
            let both = self.fresh.min(*cached).min(*excess);
            self.fresh -= both;
            self.cached += both;
            *cached -= both;
            *excess -= both;
        }
    }
}

/// The parts of the input, without the rest.
pub(super) fn input_parts(usage: &Usage) -> [PricedPart; 10] {
    let count = |tokens: Option<u64>| tokens.unwrap_or(0);
    let mut audio = CacheableTokens::new(usage.audio_input_tokens, usage.cached_audio_input_tokens);
    let mut image = CacheableTokens::new(usage.image_input_tokens, usage.cached_image_input_tokens);
    let mut video = CacheableTokens::new(usage.video_input_tokens, None);
    let mut cached = count(usage.cached_input_tokens)
        .saturating_sub(audio.cached)
        .saturating_sub(image.cached);
    let writes = [
        PricedPart::new(count(usage.cache_write_5m_tokens), Unit::CacheWrite5m),
        PricedPart::new(count(usage.cache_write_30m_tokens), Unit::CacheWrite30m),
        PricedPart::new(count(usage.cache_write_1h_tokens), Unit::CacheWrite1h),
        PricedPart::new(count(usage.cache_write_12h_tokens), Unit::CacheWrite12h),
    ];
    if let Some(whole) = usage.input_tokens.filter(|whole| *whole > 0) {
        let kinds = [&audio, &image, &video];
        let kinds = kinds.iter().flat_map(|kind| [kind.fresh, kind.cached]);
        let parts = kinds.chain(writes.iter().map(|write| write.tokens));
        let mut excess = parts
            .fold(cached, u64::saturating_add)
            .saturating_sub(whole);
        for kind in [&mut audio, &mut image, &mut video] {
            kind.overlap(&mut cached, &mut excess);
        }
    }
    // Nothing has a price of its own for cached video.
    cached = cached.saturating_add(video.cached);
    let [write_5m, write_30m, write_1h, write_12h] = writes;
    [
        PricedPart::new(cached, Unit::CachedInput),
        write_5m,
        write_30m,
        write_1h,
        write_12h,
        PricedPart::new(audio.fresh, Unit::AudioInput),
        PricedPart::new(audio.cached, Unit::CachedAudioInput),
        PricedPart::new(image.fresh, Unit::ImageInput),
        PricedPart::new(image.cached, Unit::CachedImageInput),
        PricedPart::new(video.fresh, Unit::VideoInput),
    ]
}

/// The parts of the output, without the rest.
pub(super) fn output_parts(usage: &Usage) -> [PricedPart; 5] {
    let part = |tokens: Option<u64>, unit| PricedPart::new(tokens.unwrap_or(0), unit);
    [
        part(usage.reasoning_tokens, Unit::Reasoning),
        part(usage.audio_output_tokens, Unit::AudioOutput),
        part(usage.image_output_tokens, Unit::ImageOutput),
        part(usage.video_output_tokens, Unit::VideoOutput),
        part(usage.citation_tokens, Unit::Citation),
    ]
}
