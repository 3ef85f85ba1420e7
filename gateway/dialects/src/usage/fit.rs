//! Parts that fit into their whole, whatever a provider says.

use weir_schemas::Usage;

use super::cache_writes;

/// Makes every part at most what its whole leaves for it, so that no token is billed twice.
///
/// - What was cached or written is part of the input, and so are audio, images and video. A whole
///   that is missing or zero is as large as its parts.
/// - Where cached tokens and audio or images leave no other way, they overlap: the least that must
///   have been cached audio or images is.
/// - Tokens that were written to the cache are billed as that, whatever they are of.
pub(crate) fn fit_parts(usage: &mut Usage) {
    fit_input(usage);
    fit_output(usage);
}

fn fit_input(usage: &mut Usage) {
    let stored = total(&[usage.cached_input_tokens, cache_writes(usage)]);
    let media = total(&[
        usage.audio_input_tokens,
        usage.image_input_tokens,
        usage.video_input_tokens,
    ]);
    let input = whole(&mut usage.input_tokens, stored.max(media));
    let mut rest = input;
    for part in [
        &mut usage.cached_input_tokens,
        &mut usage.cache_write_1h_tokens,
        &mut usage.cache_write_12h_tokens,
        &mut usage.cache_write_30m_tokens,
        &mut usage.cache_write_5m_tokens,
    ] {
        take(part, &mut rest);
    }
    let fresh = rest;
    rest = input;
    for part in [
        &mut usage.audio_input_tokens,
        &mut usage.image_input_tokens,
        &mut usage.video_input_tokens,
    ] {
        take(part, &mut rest);
    }
    fit_overlap(usage, fresh);
}

/// Settles what was both stored and not text. `fresh` is what was neither cached nor written.
fn fit_overlap(usage: &mut Usage, fresh: u64) {
    let mut cached = usage.cached_input_tokens.unwrap_or(0);
    let kinds = [
        (
            &mut usage.audio_input_tokens,
            &mut usage.cached_audio_input_tokens,
        ),
        (
            &mut usage.image_input_tokens,
            &mut usage.cached_image_input_tokens,
        ),
    ];
    let mut beside = usage.video_input_tokens.unwrap_or(0);
    let mut parts = kinds;
    for (all, stored) in &mut parts {
        let mut room = cached.min(all.unwrap_or(0));
        let before = room;
        take(stored, &mut room);
        cached -= before - room;
        beside += all.unwrap_or(0) - stored.unwrap_or(0);
    }
    let mut surplus = beside.saturating_sub(fresh);
    for (all, stored) in &mut parts {
        let open = all.unwrap_or(0) - stored.unwrap_or(0);
        let moved = surplus.min(cached).min(open);
        if moved > 0 {
            **stored = Some(stored.unwrap_or(0) + moved);
            cached -= moved;
            surplus -= moved;
        }
    }
    // What is left was written to the cache, or is cached video, which nobody prices apart.
    let [(audio, cached_audio), (image, cached_image)] = parts;
    for (all, stored) in [
        (&mut usage.video_input_tokens, 0),
        (image, cached_image.unwrap_or(0)),
        (audio, cached_audio.unwrap_or(0)),
    ] {
        let open = all.unwrap_or(0) - stored;
        let removed = surplus.min(open);
        if removed > 0 {
            *all = all.map(|count| count - removed);
            surplus -= removed;
        }
    }
}

fn fit_output(usage: &mut Usage) {
    let parts = total(&[
        usage.audio_output_tokens,
        usage.image_output_tokens,
        usage.video_output_tokens,
        usage.citation_tokens,
        usage.reasoning_tokens,
    ]);
    let mut rest = whole(&mut usage.output_tokens, parts);
    for part in [
        &mut usage.audio_output_tokens,
        &mut usage.image_output_tokens,
        &mut usage.video_output_tokens,
        &mut usage.citation_tokens,
        &mut usage.reasoning_tokens,
    ] {
        take(part, &mut rest);
    }
}

fn total(counts: &[Option<u64>]) -> u64 {
    let known = counts.iter().flatten();
    known.fold(0, |sum, count| sum.saturating_add(*count))
}

/// The whole, which is at least there if its parts are.
fn whole(known: &mut Option<u64>, parts: u64) -> u64 {
    if known.unwrap_or(0) == 0 && parts > 0 {
        *known = Some(parts);
    }
    known.unwrap_or(0)
}

/// Lets a part have what it asks for, as far as that is there.
fn take(part: &mut Option<u64>, rest: &mut u64) {
    if let Some(part) = part {
        *part = (*part).min(*rest);
        *rest -= *part;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn some(count: Option<u64>) -> u64 {
        count.unwrap_or(0)
    }

    /// What a bill may name of the input, each token once: all of it must fit.
    pub(super) fn assert_fits(usage: &Usage) {
        let [input, output] = [usage.input_tokens, usage.output_tokens].map(some);
        let stored = some(usage.cached_input_tokens) + some(cache_writes(usage));
        let audio = some(usage.audio_input_tokens);
        let image = some(usage.image_input_tokens);
        let cached_audio = some(usage.cached_audio_input_tokens);
        let cached_image = some(usage.cached_image_input_tokens);
        assert!(cached_audio <= audio && cached_image <= image, "{usage:?}");
        assert!(cached_audio + cached_image <= some(usage.cached_input_tokens));
        let media = audio + image + some(usage.video_input_tokens);
        assert!(media <= input, "{usage:?}");
        let once = stored + media - cached_audio - cached_image;
        assert!(once <= input, "{usage:?}");
        let out = some(usage.reasoning_tokens)
            + some(usage.audio_output_tokens)
            + some(usage.image_output_tokens)
            + some(usage.video_output_tokens)
            + some(usage.citation_tokens);
        assert!(out <= output, "{usage:?}");
    }

    /// Any counts, small ones so that they collide.
    pub(crate) fn any_usage() -> impl Strategy<Value = Usage> {
        let count = proptest::option::weighted(0.7, prop_oneof![Just(0), 0_u64..50, 0..2000_u64]);
        proptest::collection::vec(count, 17).prop_map(|counts| Usage {
            input_tokens: counts[0],
            cached_input_tokens: counts[1],
            cache_write_5m_tokens: counts[2],
            cache_write_30m_tokens: counts[3],
            cache_write_1h_tokens: counts[4],
            cache_write_12h_tokens: counts[5],
            audio_input_tokens: counts[6],
            cached_audio_input_tokens: counts[7],
            image_input_tokens: counts[8],
            cached_image_input_tokens: counts[9],
            video_input_tokens: counts[10],
            output_tokens: counts[11],
            reasoning_tokens: counts[12],
            audio_output_tokens: counts[13],
            image_output_tokens: counts[14],
            video_output_tokens: counts[15],
            citation_tokens: counts[16],
            ..Usage::default()
        })
    }

    proptest! {
        #[test]
        fn parts_fit_into_any_whole(mut usage in any_usage()) {
            let before = usage;
            fit_parts(&mut usage);
            assert_fits(&usage);
            for (whole, is) in [
                (before.input_tokens, usage.input_tokens),
                (before.output_tokens, usage.output_tokens),
            ] {
                if some(whole) > 0 {
                    prop_assert_eq!(whole, is, "a real whole stands");
                }
            }
            let again = { let mut again = usage; fit_parts(&mut again); again };
            prop_assert_eq!(usage, again, "what fits is left alone");
        }

        #[test]
        fn pieces_merge_in_any_order_and_never_to_less(
            pieces in proptest::collection::vec(any_usage(), 1..5),
            turn in 0_usize..5,
        ) {
            let merged = |pieces: &[Usage]| {
                let mut all = Usage::default();
                pieces.iter().for_each(|piece| all.merge(piece));
                all
            };
            let mut turned = pieces.clone();
            turned.rotate_left(turn % pieces.len());
            let all = merged(&pieces);
            prop_assert_eq!(all, merged(&turned));
            for (name, count) in pieces.iter().flat_map(Usage::counts) {
                let known = all.counts().find(|(known, _)| *known == name);
                prop_assert!(known.is_some_and(|(_, known)| known >= count), "{}", name);
            }
        }
    }

    #[test]
    fn what_was_cached_is_not_billed_as_audio_too() {
        let mut usage = Usage {
            input_tokens: Some(1000),
            cached_input_tokens: Some(900),
            audio_input_tokens: Some(500),
            ..Usage::default()
        };
        fit_parts(&mut usage);
        assert_eq!(usage.cached_audio_input_tokens, Some(400));
        assert_eq!(usage.audio_input_tokens, Some(500));
    }

    #[test]
    fn an_image_that_was_written_to_the_cache_is_billed_as_a_write() {
        let mut usage = Usage {
            input_tokens: Some(1000),
            cache_write_30m_tokens: Some(900),
            image_input_tokens: Some(800),
            ..Usage::default()
        };
        fit_parts(&mut usage);
        assert_eq!(usage.image_input_tokens, Some(100));
        assert_eq!(usage.cache_write_30m_tokens, Some(900));
    }
}
