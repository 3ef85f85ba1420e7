//! Names of tools as each target takes them.
//!
//! Tools of MCP servers have names of up to 128 characters, with dots and slashes in them. Where a
//! target does not take a name, a stand-in takes its place in the whole request, and the answer has
//! the client's name again.

use std::borrow::Cow;
use std::collections::HashSet;

use super::{Part, Request, ToolChoice, fnv_1a};
use crate::json::Text;

/// The names that a target takes: letters, digits, `_`, `-` and some more.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ToolNameRules {
    pub(crate) chars_max: usize,
    /// Whether a dot may stand in it.
    pub(crate) has_dots: bool,
    /// Whether it must begin with a letter or `_`.
    pub(crate) begins_with_letter: bool,
}

/// A name that a target gets instead of the client's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StandIn {
    pub(crate) name: String,
    /// The client's own name, escaped.
    pub(crate) stands_for: String,
}

impl ToolNameRules {
    fn takes_char(&self, c: char) -> bool {
        c.is_ascii_alphanumeric() || matches!(c, '_' | '-') || (self.has_dots && c == '.')
    }

    fn takes(&self, name: &str) -> bool {
        let begins_well = name.bytes().next().is_some_and(|first| {
            !self.begins_with_letter || first.is_ascii_alphabetic() || first == b'_'
        });
        begins_well && name.len() <= self.chars_max && name.chars().all(|c| self.takes_char(c))
    }

    /// As much of the name as fits, and a hash of all of it. The same name always becomes the same,
    /// so that the beginning of the prompt does not change from request to request.
    fn stand_in(&self, name: &str, round: u64) -> String {
        let hash = fnv_1a(name).wrapping_add(round);
        let end = format!("_{:08x}", (hash ^ (hash >> 32)) & 0xffff_ffff);
        let begins_well = name.chars().next().is_some_and(|first| {
            let mut bytes = [0; 4];
            self.takes(first.encode_utf8(&mut bytes))
        });
        let start = if begins_well { "" } else { "t" };
        let fitting = |c: char| if self.takes_char(c) { c } else { '_' };
        let room = self.chars_max.saturating_sub(start.len() + end.len());
        let middle: String = name.chars().map(fitting).take(room).collect();
        format!("{start}{middle}{end}")
    }
}

impl<'a> Request<'a> {
    /// Puts stand-ins in the place of the names that a target does not take, and returns them.
    pub(crate) fn fit_tool_names(&mut self, rules: &ToolNameRules) -> Vec<StandIn> {
        let mut fitting = Fitting {
            rules,
            taken: HashSet::new(),
            stand_ins: Vec::new(),
        };
        if self.tool_names().all(|name| rules.takes(name.as_escaped())) {
            return Vec::new();
        }
        let taken = self.tool_names().map(|name| name.as_escaped().to_owned());
        fitting.taken = taken.filter(|name| rules.takes(name)).collect();
        self.tool_names_mut().for_each(|name| fitting.fit(name));
        fitting.stand_ins
    }

    fn tool_names(&self) -> impl Iterator<Item = &Text<'a>> {
        let tools = self.tools.iter().map(|tool| &tool.name);
        let chosen = match &self.tool_choice {
            Some(ToolChoice::Named(name)) => std::slice::from_ref(name),
            _ => &[],
        };
        let parts = self.turns.iter().flat_map(|turn| &turn.parts);
        let calls = parts.filter_map(|part| part.as_call().map(|call| &call.name));
        tools.chain(chosen).chain(calls)
    }

    fn tool_names_mut(&mut self) -> impl Iterator<Item = &mut Text<'a>> {
        let tools = self.tools.iter_mut().map(|tool| &mut tool.name);
        let chosen = match &mut self.tool_choice {
            Some(ToolChoice::Named(name)) => std::slice::from_mut(name),
            _ => &mut [],
        };
        let parts = self.turns.iter_mut().flat_map(|turn| &mut turn.parts);
        let calls = parts.filter_map(|part| match part {
            Part::ToolCall(call) => Some(&mut call.name),
            _ => None,
        });
        tools.chain(chosen).chain(calls)
    }
}

struct Fitting<'r> {
    rules: &'r ToolNameRules,
    /// The names that are in use.
    taken: HashSet<String>,
    stand_ins: Vec<StandIn>,
}

impl Fitting<'_> {
    fn fit(&mut self, name: &mut Text<'_>) {
        let escaped = name.as_escaped();
        if self.rules.takes(escaped) {
            return;
        }
        let known = self
            .stand_ins
            .iter()
            .find(|known| known.stands_for == escaped);
        let stand_in = match known {
            Some(known) => known.name.clone(),
            None => self.new_stand_in(name),
        };
        *name = Text::owned(stand_in);
    }

    fn new_stand_in(&mut self, name: &Text<'_>) -> String {
        let plain = name.unescape().unwrap_or(Cow::Borrowed(name.as_escaped()));
        let mut round = 0;
        let mut stand_in = self.rules.stand_in(&plain, round);
        while !self.taken.insert(stand_in.clone()) {
            round += 1;
            stand_in = self.rules.stand_in(&plain, round);
        }
        self.stand_ins.push(StandIn {
            name: stand_in.clone(),
            stands_for: name.as_escaped().to_owned(),
        });
        stand_in
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::neutral::Tool;
    use crate::schema::EMPTY_SCHEMA;

    const OPENAI: ToolNameRules = ToolNameRules {
        chars_max: 64,
        has_dots: false,
        begins_with_letter: false,
    };
    const GEMINI: ToolNameRules = ToolNameRules {
        chars_max: 128,
        has_dots: true,
        begins_with_letter: true,
    };

    fn request(names: &[String]) -> Request<'static> {
        let tool = |name: &String| Tool {
            name: Text::owned(name.clone()),
            description: None,
            schema: EMPTY_SCHEMA.into(),
            strict: None,
            free_text: None,
            cache_control: None,
        };
        Request {
            tools: names.iter().map(tool).collect(),
            ..Request::default()
        }
    }

    proptest! {
        #[test]
        fn any_names_become_fitting_and_stay_distinct(
            names in prop::collection::hash_set(
                prop_oneof!["[a-z_.]{1,3}", "[a-zA-Z0-9_./:é -]{60,140}", ".{0,6}", "x{64,66}"], 1..8),
        ) {
            for rules in [OPENAI, GEMINI] {
                let names: Vec<String> = names.iter().cloned().collect();
                let mut request = request(&names);
                let stand_ins = request.fit_tool_names(&rules);
                let given: Vec<&str> = request.tools.iter().map(|tool| tool.name.as_escaped()).collect();
                let distinct: HashSet<&&str> = given.iter().collect();
                prop_assert_eq!(distinct.len(), names.len());
                for (given, name) in given.iter().zip(&names) {
                    prop_assert!(rules.takes(given), "{given}");
                    let back = stand_ins.iter().find(|stand_in| stand_in.name == *given);
                    let back = back.map_or(*given, |stand_in| &stand_in.stands_for);
                    let name = Text::plain(name);
                    prop_assert_eq!(back, name.as_escaped());
                }
            }
        }
    }

    #[test]
    fn a_stand_in_does_not_depend_on_the_other_names() {
        let long = "mcp__server__".repeat(6);
        let alone = request(std::slice::from_ref(&long)).fit_tool_names(&OPENAI);
        let beside = request(&["a".to_owned(), "x.y".to_owned(), long]).fit_tool_names(&OPENAI);
        assert_eq!(alone[0], beside[1]);
        // A client's own tool with the name of a stand-in keeps it.
        let own = alone[0].name.clone();
        let mut both = request(&["mcp__server__".repeat(6), own.clone()]);
        let other = both.fit_tool_names(&OPENAI);
        assert_eq!(both.tools[1].name.as_escaped(), own);
        assert_ne!(other[0].name, own);
    }
}
