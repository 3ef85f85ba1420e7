//! Finds in a prompt what does not follow its bytes.
//!
//! What is known to be text counts by its bytes. Whatever else stands there, or is written so that it
//! could be overlooked, may fill the model's window.

use super::Billable;
use crate::caps::INLINE_FILE_BYTES_MIN;
use crate::json::JsonCursor;

/// Kinds of parts and items whose tokens are at most their bytes.
const TEXT_KINDS: [&[u8]; 27] = [
    b"text",
    b"input_text",
    b"output_text",
    b"message",
    b"tool_use",
    b"tool_result",
    b"thinking",
    b"redacted_thinking",
    b"reasoning",
    b"reasoning_text",
    b"summary_text",
    b"function_call",
    b"function_call_output",
    b"custom_tool_call",
    b"custom_tool_call_output",
    b"refusal",
    b"local_shell_call",
    b"local_shell_call_output",
    b"apply_patch_call",
    b"apply_patch_call_output",
    b"computer_call",
    b"computer_call_output",
    b"server_tool_use",
    b"web_search_tool_result",
    b"search_result",
    b"content",
    b"tool_reference",
];
const IMAGE_KINDS: [&[u8]; 5] = [
    b"image_url",
    b"input_image",
    b"image",
    b"computer_screenshot",
    b"input_screenshot",
];
/// Beginnings of the kinds of tools that the client runs and whose descriptions are the provider's.
const CLIENT_TOOLS: [&[u8]; 7] = [
    b"bash_",
    b"text_editor_",
    b"computer",
    b"memory_",
    b"local_shell",
    b"apply_patch",
    b"namespace",
];
/// How deep parts may stand in parts.
const DEPTH_MAX: usize = 8;

const UNREADABLE: &str = "a part of the prompt that is not plainly text";

/// What is seen of a part while its entries pass.
#[derive(Default)]
struct PartSeen<'a> {
    kind: Option<&'a [u8]>,
    has_role: bool,
    /// Base64, in bytes.
    data_bytes: u64,
    /// Whether the data is plain text by its media type, or not Base64.
    is_text: bool,
    audio_format: Option<&'a [u8]>,
}

impl Billable {
    /// Reads messages, input items or a system prompt.
    pub(crate) fn read_prompt(&mut self, raw: &str) {
        if raw.starts_with(['[', '{']) {
            let mut cursor = JsonCursor::new(raw.as_bytes());
            let read = self.parts(&mut cursor, 0);
            self.outside_unless(read.is_some(), UNREADABLE);
        }
    }

    pub(crate) fn outside_unless(&mut self, is_inside: bool, what: &'static str) {
        if !is_inside {
            self.outside.get_or_insert(what);
        }
    }

    /// A list of parts, or one. Text and numbers count by their bytes.
    fn parts(&mut self, cursor: &mut JsonCursor<'_>, depth: usize) -> Option<()> {
        match cursor.peek()? {
            b'[' if depth < DEPTH_MAX => cursor.array(|cursor| self.parts(cursor, depth + 1)),
            b'{' if depth < DEPTH_MAX => self.part(cursor, depth + 1),
            b'[' | b'{' => None,
            _ => cursor.skip(),
        }
    }

    fn part(&mut self, cursor: &mut JsonCursor<'_>, depth: usize) -> Option<()> {
        let mut seen = PartSeen::default();
        cursor.object(|key, cursor| {
            match key {
                b"type" => seen.kind = Some(cursor.string_or_skip()?.unwrap_or_default()),
                b"role" => {
                    seen.has_role = true;
                    cursor.skip()?;
                }
                b"content" | b"output" => self.parts(cursor, depth)?,
                b"source" | b"image_url" | b"input_audio" | b"file" => {
                    self.source(cursor, &mut seen, depth)?;
                }
                b"file_data" | b"data" => seen.add_data(cursor)?,
                // An answer in audio that the provider keeps.
                b"audio" if cursor.peek()? == b'{' => {
                    self.outside_unless(false, "audio that the provider keeps");
                    cursor.skip()?;
                }
                key => {
                    self.outside_unless(memchr::memchr(b'\\', key).is_none(), UNREADABLE);
                    cursor.skip()?;
                }
            }
            Some(())
        })?;
        self.judge(&seen);
        Some(())
    }

    /// Where the data of a part is.
    fn source<'a>(
        &mut self,
        cursor: &mut JsonCursor<'a>,
        seen: &mut PartSeen<'a>,
        depth: usize,
    ) -> Option<()> {
        if cursor.peek()? != b'{' {
            return seen.add_data(cursor);
        }
        cursor.object(|key, cursor| {
            match key {
                b"url" | b"data" | b"file_data" => seen.add_data(cursor)?,
                b"content" => self.parts(cursor, depth)?,
                b"format" => seen.audio_format = cursor.string_or_skip()?,
                b"media_type" => {
                    let media_type = cursor.string_or_skip()?.unwrap_or_default();
                    seen.is_text |= media_type.starts_with(b"text/");
                }
                key => {
                    self.outside_unless(memchr::memchr(b'\\', key).is_none(), UNREADABLE);
                    cursor.skip()?;
                }
            }
            Some(())
        })
    }

    fn judge(&mut self, seen: &PartSeen<'_>) {
        let Some(kind) = seen.kind else {
            // Responses take `{"id": …}` for an item that is kept.
            return self.outside_unless(seen.has_role, "an item that the provider keeps");
        };
        if IMAGE_KINDS.contains(&kind) {
            self.images += 1;
            self.file_bytes += seen.data_bytes;
        } else if kind == b"input_audio" {
            // Of these formats a second has at least 1000 bytes, and at most 32 tokens
            // (ai.google.dev/gemini-api/docs/audio, 2026-11-30).
            let is_plain = matches!(seen.audio_format, Some(b"wav" | b"mp3"));
            self.outside_unless(is_plain && seen.data_bytes > 0, "audio of unknown length");
            self.audio_bytes += seen.data_bytes;
            self.file_bytes += seen.data_bytes;
        } else if matches!(kind, b"document" | b"file" | b"input_file") {
            self.outside_unless(seen.is_text, "a file, whose pages are not counted");
            let is_data = self.outside.is_some();
            self.file_bytes += if is_data { seen.data_bytes } else { 0 };
        } else if !TEXT_KINDS.contains(&kind) {
            self.outside_unless(false, UNREADABLE);
        }
    }

    /// Reads the tools that are offered.
    pub(crate) fn read_tools(&mut self, raw: &str) {
        if raw.starts_with('[') {
            let mut cursor = JsonCursor::new(raw.as_bytes());
            let read = cursor.array(|cursor| self.tool(cursor));
            self.outside_unless(read.is_some(), UNREADABLE);
        }
    }

    fn tool(&mut self, cursor: &mut JsonCursor<'_>) -> Option<()> {
        let (mut kind, mut max_uses, mut is_plain) = (None, None, true);
        if cursor.peek()? != b'{' {
            return cursor.skip();
        }
        cursor.object(|key, cursor| {
            match key {
                b"type" => kind = cursor.string_or_skip()?,
                b"max_uses" => max_uses = crate::json::non_negative_integer(cursor.value()?),
                key => {
                    is_plain &= memchr::memchr(b'\\', key).is_none();
                    cursor.skip()?;
                }
            }
            Some(())
        })?;
        let kind = kind.unwrap_or(b"function");
        let is_like = |start: &&[u8]| kind.starts_with(start);
        if is_plain && matches!(kind, b"function" | b"custom") {
            return Some(());
        }
        if is_plain && CLIENT_TOOLS.iter().any(is_like) {
            self.tools.described += 1;
            return Some(());
        }
        let calls = &mut self.tools;
        calls.add(max_uses);
        let of_its_kind = if kind.starts_with(b"web_search") {
            &mut calls.web_search
        } else if kind.starts_with(b"file_search") {
            &mut calls.file_search
        } else if kind.starts_with(b"code_") {
            &mut calls.code_execution
        } else {
            let bills_another =
                kind.starts_with(b"image_generation") || kind.starts_with(b"advisor");
            if bills_another {
                self.unbounded
                    .get_or_insert("a tool that another model is billed for");
            }
            return Some(());
        };
        *of_its_kind = true;
        Some(())
    }
}

impl<'a> PartSeen<'a> {
    /// Data of a file, if it is in Base64.
    fn add_data(&mut self, cursor: &mut JsonCursor<'a>) -> Option<()> {
        let text = cursor.string_or_skip()?.unwrap_or_default();
        let data = match memchr::memmem::find(&text[..text.len().min(256)], b";base64,") {
            Some(at) => {
                self.is_text |= text.starts_with(b"data:text/");
                &text[at + 8..]
            }
            None => text,
        };
        if data.len() >= INLINE_FILE_BYTES_MIN {
            self.data_bytes += data.len() as u64;
        }
        Some(())
    }
}
