//! Anthropic's `usage`, of which a stream sends parts.

use weir_schemas::{OtherModelUsage, Usage};

use super::{CacheWrites, cache_writes, count, fit_parts, sum};
use crate::caps;
use crate::json::{JsonCursor, unescape};

/// What the `usage` objects of an answer say together. A stream has one at the start and one at the
/// end, of which either may hold placeholders.
#[derive(Clone, Debug, Default)]
pub(crate) struct AnthropicCounts {
    merged: Usage,
    /// Input in an object that says nothing of the cache.
    bare_input: Option<u64>,
    /// What was cached and written in an object without input.
    stored_apart: Option<u64>,
    iterations: Iterations,
    /// Whether code ran in a container.
    had_container: bool,
    /// Pages that were fetched.
    fetches: Option<u64>,
}

/// What the model was sampled for, one by one.
#[derive(Clone, Debug, Default)]
struct Iterations {
    /// Sum of those of the model that was asked.
    own: Usage,
    others: Vec<OtherModelUsage>,
    /// Whether another model gave the answer. The counts of the whole object are that model's then.
    had_fallback: bool,
}

/// One `usage` object, or one of its iterations.
#[derive(Default)]
struct UsageObject<'a> {
    usage: Usage,
    writes: CacheWrites,
    /// Whole input in OpenAI's name, from servers in front of others.
    prompt: Option<u64>,
    fetches: Option<u64>,
    iterations: Option<&'a [u8]>,
    kind: Option<&'a [u8]>,
    model: Option<&'a [u8]>,
}

impl AnthropicCounts {
    /// Reads a `usage` object.
    pub(crate) fn read(&mut self, raw: &[u8]) {
        let Some(counts) = UsageObject::read(&mut JsonCursor::new(raw)) else {
            return;
        };
        if let Some(iterations) = counts.iterations.and_then(Iterations::read)
            && iterations.tokens() > self.iterations.tokens()
        {
            self.iterations = iterations;
        }
        self.fetches = self.fetches.max(counts.fetches);
        let input = counts.usage.input_tokens.filter(|input| *input > 0);
        let usage = counts.settle();
        let stored = sum([usage.cached_input_tokens, cache_writes(&usage)]);
        match (input, stored.filter(|stored| *stored > 0)) {
            (Some(_), None) => self.bare_input = self.bare_input.max(input),
            (None, stored) => self.stored_apart = self.stored_apart.max(stored),
            (Some(_), Some(_)) => {}
        }
        self.merged.merge(&usage);
    }

    /// Reads a message's `container`, which is there if code ran in it. Returns whether it did.
    pub(crate) fn read_container(&mut self, raw: &[u8]) -> bool {
        self.had_container |= raw.starts_with(b"{");
        self.had_container
    }

    /// Code is billed by the time of its container, which no answer says, so the container counts as
    /// one execution. Beside searches and fetches it is free
    /// (platform.claude.com/docs/en/agents-and-tools/tool-use/code-execution-tool, November 2026).
    fn count_code(&self, usage: &mut Usage) {
        let ran = |count: Option<u64>| count.is_some_and(|count| count > 0);
        if ran(usage.web_searches) || ran(self.fetches) {
            usage.code_executions = None;
        } else if self.had_container {
            usage.code_executions = usage.code_executions.max(Some(1));
        }
    }

    /// What was billed at the model that was asked, with the cached tokens in the input.
    pub(crate) fn usage(&self) -> Option<Usage> {
        let mut usage = self.merged;
        if let (Some(input), Some(stored)) = (self.bare_input, self.stored_apart) {
            usage.input_tokens = usage.input_tokens.max(Some(input.saturating_add(stored)));
        }
        if self.iterations.had_fallback {
            usage = Usage {
                web_searches: usage.web_searches,
                code_executions: usage.code_executions,
                ..self.iterations.own
            };
        } else {
            usage.merge(&self.iterations.own);
        }
        self.count_code(&mut usage);
        fit_parts(&mut usage);
        (!usage.is_empty()).then_some(usage)
    }

    /// What other models were asked for within the call.
    pub(crate) fn other_models(&self) -> &[OtherModelUsage] {
        &self.iterations.others
    }
}

impl<'a> UsageObject<'a> {
    fn read(cursor: &mut JsonCursor<'a>) -> Option<Self> {
        let mut counts = Self::default();
        cursor.object(|key, cursor| counts.read_entry(key, cursor))?;
        Some(counts)
    }

    fn read_entry(&mut self, key: &[u8], cursor: &mut JsonCursor<'a>) -> Option<()> {
        let usage = &mut self.usage;
        match key {
            b"input_tokens" => count(cursor, &mut usage.input_tokens),
            b"cache_read_input_tokens" => count(cursor, &mut usage.cached_input_tokens),
            b"cache_creation_input_tokens" => count(cursor, &mut self.writes.all),
            b"cache_creation" => self.writes.read_lifetimes(cursor),
            b"output_tokens" | b"completion_tokens" => count(cursor, &mut usage.output_tokens),
            b"prompt_tokens" => count(cursor, &mut self.prompt),
            b"prompt_tokens_details" => cursor.object_or_skip(|key, cursor| match key {
                b"cached_tokens" => count(cursor, &mut usage.cached_input_tokens),
                _ => cursor.skip(),
            }),
            b"output_tokens_details" => cursor.object_or_skip(|key, cursor| match key {
                b"thinking_tokens" => count(cursor, &mut usage.reasoning_tokens),
                _ => cursor.skip(),
            }),
            b"server_tool_use" => cursor.object_or_skip(|key, cursor| match key {
                b"web_search_requests" => count(cursor, &mut usage.web_searches),
                b"web_fetch_requests" => count(cursor, &mut self.fetches),
                b"code_execution_requests" => count(cursor, &mut usage.code_executions),
                _ => cursor.skip(),
            }),
            b"iterations" => {
                self.iterations = Some(cursor.value()?);
                Some(())
            }
            b"type" => {
                self.kind = cursor.string_or_skip()?;
                Some(())
            }
            b"model" => {
                self.model = cursor.string_or_skip()?;
                Some(())
            }
            _ => cursor.skip(),
        }
    }

    /// The counts with the cached tokens in the input.
    fn settle(&self) -> Usage {
        let mut usage = self.usage;
        self.writes.add_to(&mut usage);
        let stored = sum([usage.cached_input_tokens, cache_writes(&usage)]);
        // In OpenAI's names, the input has it all already.
        let own = usage.input_tokens.filter(|input| *input > 0);
        let whole = match (own, self.prompt) {
            (None, Some(prompt)) if prompt > 0 => Some(prompt),
            _ => usage
                .input_tokens
                .and_then(|input| sum([Some(input), stored])),
        };
        usage.input_tokens = whole;
        usage
    }
}

impl Iterations {
    fn read(raw: &[u8]) -> Option<Self> {
        if raw.first() != Some(&b'[') {
            return None;
        }
        let mut entries = Vec::new();
        JsonCursor::new(raw).array(|cursor| {
            if cursor.peek()? == b'{' {
                entries.push(UsageObject::read(cursor)?);
                return Some(());
            }
            cursor.skip()
        })?;
        let is_fallback = |entry: &&UsageObject<'_>| entry.kind == Some(b"fallback_message");
        let served_by = entries
            .iter()
            .find(is_fallback)
            .and_then(|entry| entry.model);
        let mut iterations = Self {
            had_fallback: served_by.is_some(),
            ..Self::default()
        };
        for entry in &entries {
            // Steps before the last one of the model that served are entries of the usual kind.
            let is_other = entry.kind == Some(b"advisor_message")
                || (served_by.is_some() && entry.model == served_by);
            let model = entry.model.filter(|_| is_other);
            iterations.usage_of(model).add(&entry.settle());
        }
        Some(iterations)
    }

    /// The sum for a model; without one, for the model that was asked.
    fn usage_of(&mut self, model: Option<&[u8]>) -> &mut Usage {
        let name = model.and_then(|name| unescape(name, caps::RESPONSE_NAME_BYTES_MAX));
        let Some(name) = name else {
            return &mut self.own;
        };
        let known = self.others.iter().position(|other| other.model == name);
        let further = caps::OTHER_MODELS_MAX;
        let at = known.unwrap_or_else(|| self.others.len().min(further));
        if at == self.others.len() {
            self.others.push(OtherModelUsage {
                model: if at < further {
                    name
                } else {
                    caps::FURTHER_MODELS.to_owned()
                },
                usage: Usage::default(),
            });
        }
        &mut self.others[at].usage
    }

    fn tokens(&self) -> u64 {
        let all = self.others.iter().map(|other| &other.usage);
        let each = all.chain([&self.own]);
        let each = each.filter_map(|usage| sum([usage.input_tokens, usage.output_tokens]));
        each.fold(0, u64::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(objects: &[&str]) -> AnthropicCounts {
        let mut counts = AnthropicCounts::default();
        objects.iter().for_each(|raw| counts.read(raw.as_bytes()));
        counts
    }

    /// Input, cached, output.
    fn seen(objects: &[&str]) -> (u64, u64, u64) {
        let usage = read(objects).usage().unwrap_or_default();
        let [input, cached, output] = [
            usage.input_tokens,
            usage.cached_input_tokens,
            usage.output_tokens,
        ]
        .map(Option::unwrap_or_default);
        (input, cached, output)
    }

    #[test]
    fn placeholders_at_either_end_of_a_stream_hide_nothing() {
        let cases: &[&[&str]] = &[
            &[
                r#"{"input_tokens":4522,"cache_read_input_tokens":1000,"output_tokens":1}"#,
                r#"{"input_tokens":0,"output_tokens":16}"#,
            ],
            &[
                r#"{"input_tokens":4522,"cache_read_input_tokens":1000,"output_tokens":1}"#,
                r#"{"input_tokens":0,"cache_read_input_tokens":1000,"output_tokens":16}"#,
            ],
            &[
                r#"{"input_tokens":4522,"cache_read_input_tokens":1000,"output_tokens":1}"#,
                r#"{"input_tokens":4522,"cache_read_input_tokens":0,"output_tokens":16}"#,
            ],
            &[
                r#"{"input_tokens":0,"output_tokens":0}"#,
                r#"{"input_tokens":4522,"cache_read_input_tokens":1000,"output_tokens":16}"#,
            ],
            // What was cached is only in the first one, the rest only in the last one.
            &[
                r#"{"input_tokens":0,"cache_read_input_tokens":1000,"output_tokens":0}"#,
                r#"{"input_tokens":4522,"output_tokens":16}"#,
            ],
            // The first one counts all of it, before anybody knows what was cached.
            &[
                r#"{"input_tokens":5522,"output_tokens":0}"#,
                r#"{"input_tokens":4522,"cache_read_input_tokens":1000,"output_tokens":16}"#,
            ],
            &[
                r#"{"input_tokens":4522,"cache_read_input_tokens":1000,"output_tokens":16}"#,
                r#"{"input_tokens":0,"cache_read_input_tokens":0,"output_tokens":0}"#,
            ],
        ];
        for objects in cases {
            assert_eq!(seen(objects), (5522, 1000, 16), "{objects:?}");
            let turned: Vec<_> = objects.iter().rev().copied().collect();
            assert_eq!(seen(&turned), (5522, 1000, 16), "turned: {objects:?}");
        }
    }

    #[test]
    fn code_in_a_container_counts_unless_a_search_makes_it_free() {
        let code = |usage: &str, container: &str| {
            let mut counts = read(&[usage]);
            counts.read_container(container.as_bytes());
            counts.usage().unwrap().code_executions
        };
        let plain = r#"{"input_tokens":9,"output_tokens":2}"#;
        let container = r#"{"id":"container_1","expires_at":"2026-11-30T12:00:00Z"}"#;
        assert_eq!(code(plain, container), Some(1));
        assert_eq!(code(plain, "null"), None);
        for (tool, calls, expect) in [
            ("web_search_requests", 1, None),
            ("web_fetch_requests", 2, None),
            ("web_search_requests", 0, Some(1)),
            ("code_execution_requests", 3, Some(3)),
        ] {
            let usage = format!(
                r#"{{"input_tokens":9,"output_tokens":2,"server_tool_use":{{"{tool}":{calls}}}}}"#
            );
            assert_eq!(code(&usage, container), expect, "{tool} {calls}");
        }
    }

    #[test]
    fn an_advisor_is_another_model() {
        // platform.claude.com/docs/en/agents-and-tools/tool-use/advisor-tool: the whole counts the
        // first call's input only.
        let counts = read(&[r#"{"input_tokens":412,"cache_read_input_tokens":0,
            "cache_creation_input_tokens":0,"output_tokens":531,"iterations":[
            {"type":"message","input_tokens":412,"cache_read_input_tokens":0,"output_tokens":89},
            {"type":"advisor_message","model":"claude-opus-4-7","input_tokens":823,
                "cache_read_input_tokens":10,"output_tokens":1612},
            {"type":"advisor_message","model":"claude-opus-4-7","input_tokens":1000,
                "output_tokens":100},
            {"type":"message","input_tokens":1348,"cache_read_input_tokens":412,
                "output_tokens":442}]}"#]);
        let usage = counts.usage().unwrap();
        assert_eq!(usage.input_tokens, Some(412 + 1348 + 412));
        assert_eq!(usage.cached_input_tokens, Some(412));
        assert_eq!(usage.output_tokens, Some(531));
        let [advisor] = counts.other_models() else {
            panic!("{:?}", counts.other_models());
        };
        assert_eq!(advisor.model, "claude-opus-4-7");
        assert_eq!(advisor.usage.input_tokens, Some(833 + 1000));
        assert_eq!(advisor.usage.output_tokens, Some(1712));
    }

    #[test]
    fn further_models_are_summed_and_none_is_lost() {
        let entries = (0..1000).map(|number| {
            format!(
                r#"{{"type":"advisor_message","model":"m{}","input_tokens":1,"output_tokens":2}}"#,
                number % 500
            )
        });
        let entries = entries.collect::<Vec<_>>().join(",");
        let raw = format!(r#"{{"input_tokens":9,"output_tokens":9,"iterations":[{entries}]}}"#);
        let counts = read(&[&raw]);
        let others = counts.other_models();
        assert_eq!(others.len(), caps::OTHER_MODELS_MAX + 1);
        assert_eq!(
            others[0].usage.input_tokens,
            Some(2),
            "its second time is its own"
        );
        let last = others.last().unwrap();
        assert_eq!(last.model, caps::FURTHER_MODELS);
        let output = others.iter().filter_map(|other| other.usage.output_tokens);
        assert_eq!(output.sum::<u64>(), 2000);
    }

    #[test]
    fn a_fallback_that_served_is_billed_as_itself() {
        let counts = read(&[
            r#"{"input_tokens":0,"output_tokens":0}"#,
            r#"{"input_tokens":500,"output_tokens":90,"iterations":[
            {"type":"message","model":"claude-fable-5","input_tokens":400,"output_tokens":3},
            {"type":"message","model":"claude-opus-4-8","input_tokens":450,"output_tokens":20},
            {"type":"fallback_message","model":"claude-opus-4-8","input_tokens":500,
                "output_tokens":90}]}"#,
        ]);
        let usage = counts.usage().unwrap();
        assert_eq!(
            (usage.input_tokens, usage.output_tokens),
            (Some(400), Some(3))
        );
        let [served] = counts.other_models() else {
            panic!("{:?}", counts.other_models());
        };
        assert_eq!(served.model, "claude-opus-4-8");
        assert_eq!(served.usage.input_tokens, Some(950));
        assert_eq!(served.usage.output_tokens, Some(110));
    }

    #[test]
    fn iterations_of_zeros_leave_the_whole_alone() {
        for iterations in [
            "null",
            "[]",
            "7",
            r#"[null]"#,
            r#"[{"type":"message"}]"#,
            r#"[{"type":"compaction","input_tokens":0,"output_tokens":0}]"#,
            r#"[{"type":"message","input_tokens":30,"output_tokens":2}]"#,
        ] {
            let raw =
                format!(r#"{{"input_tokens":30,"output_tokens":2,"iterations":{iterations}}}"#);
            assert_eq!(seen(&[&raw]), (30, 0, 2), "{iterations}");
        }
    }

    proptest! {
        #[test]
        fn the_order_of_objects_does_not_matter(
            pieces in proptest::collection::vec(
                proptest::collection::vec(proptest::option::of(0_u64..9), 4), 1..5),
            turn in 0_usize..5,
        ) {
            let keys = ["input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens",
                "output_tokens"];
            let written: Vec<String> = pieces.iter().map(|counts| {
                let entries = keys.iter().zip(counts);
                let entries = entries.filter_map(|(key, count)| Some(format!("\"{key}\":{}", (*count)?)));
                format!("{{{}}}", entries.collect::<Vec<_>>().join(","))
            }).collect();
            let objects: Vec<&str> = written.iter().map(String::as_str).collect();
            let mut turned = objects.clone();
            turned.rotate_left(turn % objects.len());
            prop_assert_eq!(read(&objects).usage(), read(&turned).usage());
            let with_zeros = [&objects[..], &[r#"{"input_tokens":0,"cache_read_input_tokens":0,"output_tokens":0}"#]].concat();
            prop_assert_eq!(seen(&objects), seen(&with_zeros));
        }
    }
}
