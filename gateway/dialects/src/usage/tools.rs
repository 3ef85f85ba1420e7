//! Tools that run at the provider, where no usage counts them: the items of a response, and what it
//! says of them apart.

use weir_schemas::{OtherModelUsage, Usage};

use super::{count, openai};
use crate::caps;
use crate::json::{JsonCursor, unescape};

/// Calls of tools among the items of a response.
#[derive(Clone, Debug, Default)]
pub(crate) struct ToolCalls {
    searches: u64,
    /// Calls of the search tool that opened a page or looked for a word in it, which is free.
    page_visits: u64,
    file_searches: u64,
    code_runs: u64,
    /// Containers in which code ran. OpenAI bills each of them, not the runs in it.
    containers: Vec<Vec<u8>>,
    /// Searches that OpenAI says it bills.
    billed_searches: Option<u64>,
}

impl ToolCalls {
    /// The calls in a response's `output`.
    pub(crate) fn of_output(output: &[u8]) -> Self {
        let mut calls = Self::default();
        if output.first() == Some(&b'[') {
            let _ = JsonCursor::new(output).array(|cursor| {
                calls.add_item(cursor.value()?);
                Some(())
            });
        }
        calls
    }

    /// Counts an item that is done.
    pub(crate) fn add_item(&mut self, item: &[u8]) {
        let _ = JsonCursor::new(item).object(|key, cursor| {
            match key {
                b"type" => self.add_kind(cursor.string_or_skip()?.unwrap_or_default()),
                b"action" => cursor.object_or_skip(|key, cursor| {
                    match key {
                        b"type" => self.add_action(cursor.string_or_skip()?.unwrap_or_default()),
                        _ => cursor.skip()?,
                    }
                    Some(())
                })?,
                b"container_id" => self.add_container(cursor.string_or_skip()?),
                _ => cursor.skip()?,
            }
            Some(())
        });
    }

    /// Counts an item by its type.
    pub(crate) fn add_kind(&mut self, kind: &[u8]) {
        match kind {
            b"web_search_call" => self.searches += 1,
            b"file_search_call" => self.file_searches += 1,
            b"code_interpreter_call" => self.code_runs += 1,
            _ => {}
        }
    }

    /// Notes what a call of the search tool was for.
    pub(crate) fn add_action(&mut self, kind: &[u8]) {
        if matches!(kind, b"open_page" | b"find_in_page" | b"find") {
            self.page_visits += 1;
        }
    }

    pub(crate) fn add_container(&mut self, id: Option<&[u8]>) {
        if let Some(id) = id
            && !self.containers.iter().any(|known| known == id)
        {
            self.containers.push(id.to_vec());
        }
    }

    /// Reads a response's `tool_usage`.
    pub(crate) fn read_tool_usage(&mut self, raw: &[u8]) {
        let _ = JsonCursor::new(raw).object(|key, cursor| match key {
            b"web_search" => cursor.object_or_skip(|key, cursor| match key {
                b"num_requests" => count(cursor, &mut self.billed_searches),
                _ => cursor.skip(),
            }),
            _ => cursor.skip(),
        });
    }

    /// Takes over the same response's calls, read in another place.
    pub(crate) fn merge(&mut self, other: Self) {
        self.searches = self.searches.max(other.searches);
        self.page_visits = self.page_visits.max(other.page_visits);
        self.file_searches = self.file_searches.max(other.file_searches);
        self.code_runs = self.code_runs.max(other.code_runs);
        self.billed_searches = self.billed_searches.max(other.billed_searches);
        for container in &other.containers {
            self.add_container(Some(container));
        }
    }

    /// What was called, to be merged with what the usage itself counts. `None` if nothing was.
    pub(crate) fn usage(&self) -> Option<Usage> {
        let some = |calls: u64| (calls > 0).then_some(calls);
        let searches = some(self.searches.saturating_sub(self.page_visits));
        let containers = self.containers.len() as u64;
        let usage = Usage {
            web_searches: self.billed_searches.or(searches),
            file_searches: some(self.file_searches),
            code_executions: some(if containers > 0 {
                containers
            } else {
                self.code_runs
            }),
            ..Usage::default()
        };
        (!usage.is_empty()).then_some(usage)
    }
}

/// What a response's image tool used, in the model that its entry in `tools` names: not the one that
/// answers.
pub(crate) fn image_model(tool_usage: &[u8], model: Option<&[u8]>) -> Option<OtherModelUsage> {
    let mut images = None;
    JsonCursor::new(tool_usage).object(|key, cursor| {
        match key {
            b"image_gen" => images = openai(cursor.value()?),
            _ => cursor.skip()?,
        }
        Some(())
    })?;
    let usage = images.filter(|usage| usage.counts().any(|(_, count)| count > 0))?;
    let name = model.and_then(|name| unescape(name, caps::RESPONSE_NAME_BYTES_MAX));
    Some(OtherModelUsage {
        // Without a name it has no price, and says so.
        model: name.unwrap_or_else(|| "image_generation".to_owned()),
        usage,
    })
}

/// The model of the image tool: no other tool has one.
pub(crate) fn image_model_name(tools: &[u8]) -> Option<&[u8]> {
    let mut model = None;
    JsonCursor::new(tools).array(|cursor| {
        cursor.object_or_skip(|key, cursor| {
            match key {
                b"model" => model = cursor.string_or_skip()?.or(model),
                _ => cursor.skip()?,
            }
            Some(())
        })
    })?;
    model
}
