//! Images, documents and audio that each API takes.
//!
//! What comes in another form is put into one that the API takes: the text of a text file, an image
//! that was sent as a file. The rest is unsupported, and named with its media type.

use std::borrow::Cow;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::{EMPTY_MESSAGE, Feature, LossReport, MediaSource, Part, Request, Role};
use crate::caps;
use crate::json::Text;

/// What an API takes.
#[derive(Debug)]
pub(crate) struct MediaRules {
    /// Media types of images. `None` for an API that documents none.
    images: Option<&'static [&'static str]>,
    /// Most images of a request.
    images_max: usize,
    audio: bool,
    /// Whether it fetches files.
    file_urls: bool,
    text_files: TextFiles,
    /// Beginnings of media types of other files.
    files: &'static [&'static str],
}

/// How an API gets a text file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TextFiles {
    /// As a document of plain text.
    Document,
    /// As text beside the other text.
    Text,
    /// As data, of which it takes these types; of others as `text/plain`.
    Data(&'static [&'static str]),
    /// As data of any text type.
    AnyData,
}

/// platform.claude.com/docs/en/build-with-claude/vision and …/pdf-support: a document is a PDF or
/// plain text. Models with a context window of 200 000 tokens take 100 images, others 600.
pub(crate) const CLAUDE_MEDIA: MediaRules = MediaRules {
    images: Some(&["image/jpeg", "image/png", "image/gif", "image/webp"]),
    images_max: 600,
    audio: false,
    file_urls: true,
    text_files: TextFiles::Document,
    files: &["application/pdf"],
};

/// developers.openai.com/api/docs/guides/images-vision and …/file-inputs: "Chat Completions accepts
/// only PDF files", and the text of others as text.
pub(crate) const OPENAI_CHAT_MEDIA: MediaRules = MediaRules {
    images: Some(&["image/png", "image/jpeg", "image/webp", "image/gif"]),
    images_max: 1500,
    audio: true,
    file_urls: false,
    text_files: TextFiles::Text,
    files: &["application/pdf"],
};

/// Other vendors' chat, whose images depend on the model.
pub(crate) const CHAT_MEDIA: MediaRules = MediaRules {
    images: None,
    images_max: usize::MAX,
    ..OPENAI_CHAT_MEDIA
};

/// developers.openai.com/api/docs/guides/file-inputs: text, code, office documents and tables.
pub(crate) const RESPONSES_MEDIA: MediaRules = MediaRules {
    audio: false,
    file_urls: true,
    text_files: TextFiles::AnyData,
    files: &[
        "application/pdf",
        "application/vnd.",
        "application/msword",
        "application/rtf",
    ],
    ..OPENAI_CHAT_MEDIA
};

/// ai.google.dev/gemini-api/docs/image-understanding and …/document-processing.
pub(crate) const GEMINI_MEDIA: MediaRules = MediaRules {
    images: Some(&[
        "image/png",
        "image/jpeg",
        "image/webp",
        "image/heic",
        "image/heif",
    ]),
    images_max: 3600,
    audio: true,
    file_urls: true,
    text_files: TextFiles::Data(&[
        "text/plain",
        "text/html",
        "text/css",
        "text/csv",
        "text/xml",
        "text/rtf",
        "text/javascript",
        "text/x-python",
    ]),
    files: &["application/pdf", "audio/", "video/"],
};

impl Request<'_> {
    /// Puts images, documents and audio into the forms that an API takes, and leaves out what it
    /// does not take.
    pub(crate) fn fit_media(&mut self, rules: &MediaRules, report: &mut LossReport) {
        let mut images_left = rules.images_max;
        for turn in &mut self.turns {
            fit_parts(&mut turn.parts, rules, &mut images_left, report);
            // Providers refuse a message without content.
            if turn.parts.is_empty() && turn.role == Role::User {
                turn.parts.push(Part::Text(Text::escaped(EMPTY_MESSAGE)));
            }
        }
    }
}

fn fit_parts(
    parts: &mut Vec<Part<'_>>,
    rules: &MediaRules,
    images_left: &mut usize,
    report: &mut LossReport,
) {
    parts.retain_mut(|part| {
        let fitting = match part {
            Part::ToolResult { content, .. } => {
                fit_parts(content, rules, images_left, report);
                return true;
            }
            Part::Image { .. } | Part::File { .. } => {
                let media = std::mem::replace(part, Part::Text(Text::EMPTY));
                fitting(media, rules, report)
            }
            Part::Audio { .. } if !rules.audio => {
                report.unsupported(Feature::Audio);
                None
            }
            _ => return true,
        };
        let Some(fitting) = fitting else { return false };
        if matches!(fitting, Part::Image { .. }) {
            let Some(left) = images_left.checked_sub(1) else {
                let most = format!("more than {}", rules.images_max);
                report.unsupported_kind(Feature::Images, &most);
                return false;
            };
            *images_left = left;
        }
        if !matches!(part, Part::Audio { .. }) {
            *part = fitting;
        }
        true
    });
}

/// What an image or a file without a byte is. It says nothing, and no API takes it.
fn of_nothing(part: &Part<'_>) -> Option<Feature> {
    match part {
        Part::Image {
            source: MediaSource::Data { data, .. },
            ..
        } if data.is_empty() => Some(Feature::Images),
        Part::File {
            source: MediaSource::Data { data, .. },
            ..
        } if data.is_empty() => Some(Feature::Files),
        _ => None,
    }
}

/// An image or a file as the API takes it. `None` if it does not, which is reported.
fn fitting<'a>(part: Part<'a>, rules: &MediaRules, report: &mut LossReport) -> Option<Part<'a>> {
    if let Some(feature) = of_nothing(&part) {
        report.approximated_kind(feature, "empty");
        return None;
    }
    match part {
        Part::Image {
            source: MediaSource::Data { media_type, data },
            detail,
        } => {
            let kind = media_type_of(media_type.as_escaped(), None, &data);
            rules.takes_image(&kind, Feature::Images, report)?;
            let media_type = Text::owned(kind.into_owned());
            let source = MediaSource::Data { media_type, data };
            Some(Part::Image { source, detail })
        }
        Part::File {
            source: MediaSource::Data { media_type, data },
            name,
        } => {
            let file_name = name.as_ref().map(Text::as_escaped);
            let kind = media_type_of(media_type.as_escaped(), file_name, &data);
            rules.file(&kind, data, name, report)
        }
        Part::File {
            source: MediaSource::Url(url),
            name,
        } => rules.file_at(url, name, report),
        // Data that is not in Base64 is no address.
        Part::Image {
            source: MediaSource::Url(url),
            ..
        } if url.as_escaped().starts_with("data:") => {
            report.unsupported_kind(Feature::Images, "not Base64");
            None
        }
        part => Some(part),
    }
}

impl MediaRules {
    fn takes_image(&self, kind: &str, feature: Feature, report: &mut LossReport) -> Option<()> {
        let takes = match self.images {
            Some(images) => images.contains(&kind),
            None => kind.starts_with("image/"),
        };
        if !takes {
            report.unsupported_kind(feature, kind);
        }
        takes.then_some(())
    }

    fn file<'a>(
        &self,
        kind: &str,
        data: Text<'a>,
        name: Option<Text<'a>>,
        report: &mut LossReport,
    ) -> Option<Part<'a>> {
        if is_text(kind) {
            return self.text_file(kind, data, name, report);
        }
        let media_type = Text::owned(kind.to_owned());
        let source = MediaSource::Data { media_type, data };
        if kind.starts_with("image/") {
            self.takes_image(kind, Feature::Files, report)?;
            report.approximated_if(name.is_some(), Feature::FileName);
            let detail = None;
            return Some(Part::Image { source, detail });
        }
        if self.files.iter().any(|start| kind.starts_with(start)) {
            return Some(Part::File { source, name });
        }
        report.unsupported_kind(Feature::Files, kind);
        None
    }

    fn text_file<'a>(
        &self,
        kind: &str,
        data: Text<'a>,
        name: Option<Text<'a>>,
        report: &mut LossReport,
    ) -> Option<Part<'a>> {
        let data_type = match self.text_files {
            TextFiles::Document | TextFiles::Text => {
                let Some(text) = decoded(&data) else {
                    report.unsupported_kind(Feature::Files, &format!("{kind}, not UTF-8"));
                    return None;
                };
                if self.text_files == TextFiles::Text {
                    report.approximated_if(name.is_some(), Feature::FileName);
                    return Some(Part::Text(text));
                }
                if text.is_blank() {
                    report.approximated_kind(Feature::Files, "blank");
                    return None;
                }
                let source = MediaSource::Text(text);
                return Some(Part::File { source, name });
            }
            TextFiles::Data(kinds) if !kinds.contains(&kind) => "text/plain",
            TextFiles::Data(_) | TextFiles::AnyData => kind,
        };
        let media_type = Text::owned(data_type.to_owned());
        let source = MediaSource::Data { media_type, data };
        Some(Part::File { source, name })
    }

    /// A file at an address, whose ending is all that is known of it.
    fn file_at<'a>(
        &self,
        url: Text<'a>,
        name: Option<Text<'a>>,
        report: &mut LossReport,
    ) -> Option<Part<'a>> {
        let kind = media_type_of_name(url.as_escaped()).unwrap_or("application/pdf");
        if !self.file_urls && !kind.starts_with("image/") {
            report.unsupported(Feature::FileUrls);
            return None;
        }
        if kind.starts_with("image/") && self.takes_image(kind, Feature::Files, report).is_some() {
            report.approximated_if(name.is_some(), Feature::FileName);
            let (source, detail) = (MediaSource::Url(url), None);
            return Some(Part::Image { source, detail });
        }
        // Who takes text as data can also fetch it.
        let takes_text = matches!(self.text_files, TextFiles::Data(_) | TextFiles::AnyData);
        let takes = self.files.iter().any(|start| kind.starts_with(start));
        if !(takes || takes_text && is_text(kind)) {
            report.unsupported_kind(Feature::Files, kind);
            return None;
        }
        let source = MediaSource::Url(url);
        Some(Part::File { source, name })
    }
}

/// The media type of some data: what its first bytes say, what was declared, or what the ending of
/// its name says. Clients often declare the wrong image, which Anthropic refuses.
fn media_type_of<'a>(declared: &'a str, name: Option<&str>, data: &Text<'_>) -> Cow<'a, str> {
    if let Some(kind) = sniffed(data.as_escaped()) {
        return Cow::Borrowed(kind);
    }
    let kind = declared.split(';').next().unwrap_or(declared).trim();
    let known = match kind.to_ascii_lowercase().as_str() {
        "image/jpg" | "image/pjpeg" => Some("image/jpeg"),
        "application/x-pdf" => Some("application/pdf"),
        "" | "application/octet-stream" | "binary/octet-stream" => Some(
            name.and_then(media_type_of_name)
                .unwrap_or("application/octet-stream"),
        ),
        _ => None,
    };
    match known {
        Some(kind) => Cow::Borrowed(kind),
        None => Cow::Owned(bounded(kind).to_ascii_lowercase()),
    }
}

fn bounded(kind: &str) -> &str {
    let end = kind.char_indices().nth(caps::SHOWN_MEDIA_TYPE_CHARS_MAX);
    &kind[..end.map_or(kind.len(), |(end, _)| end)]
}

/// What the first bytes of Base64 data say.
fn sniffed(data: &str) -> Option<&'static str> {
    // Of WebP, the first bytes only say that there is some RIFF file; its name stands at byte 8.
    let is_webp = || {
        data.get(10..16)
            .is_some_and(|name| name.ends_with("XRUJQ") || name.ends_with("V0VCUA"))
    };
    Some(match data {
        data if data.starts_with("iVBORw0KGgo") => "image/png",
        data if data.starts_with("/9j/") || data.starts_with(r"\/9j\/") => "image/jpeg",
        data if data.starts_with("R0lGOD") => "image/gif",
        data if data.starts_with("UklGR") && is_webp() => "image/webp",
        data if data.starts_with("JVBERi0") => "application/pdf",
        _ => return None,
    })
}

/// The media type of a name's or URL's ending.
pub(crate) fn media_type_of_name(name: &str) -> Option<&'static str> {
    let path = name.split(['?', '#']).next().unwrap_or(name);
    let (_, ending) = path.rsplit_once('.')?;
    Some(match ending.to_ascii_lowercase().as_str() {
        "jpg" | "jpeg" => "image/jpeg",
        "png" => "image/png",
        "gif" => "image/gif",
        "webp" => "image/webp",
        "heic" => "image/heic",
        "heif" => "image/heif",
        "bmp" => "image/bmp",
        "tif" | "tiff" => "image/tiff",
        "pdf" => "application/pdf",
        "csv" => "text/csv",
        "htm" | "html" => "text/html",
        "css" => "text/css",
        "md" => "text/markdown",
        "json" => "application/json",
        "xml" => "text/xml",
        "txt" | "log" | "tsv" | "yaml" | "yml" | "toml" | "ini" | "rs" | "py" | "js" | "ts"
        | "java" | "c" | "h" | "cpp" | "go" | "rb" | "php" | "sh" | "sql" | "tex" => "text/plain",
        "zip" => "application/zip",
        "gz" | "tgz" => "application/gzip",
        "tar" => "application/x-tar",
        "doc" => "application/msword",
        "docx" => "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        "xls" => "application/vnd.ms-excel",
        "xlsx" => "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        "pptx" => "application/vnd.openxmlformats-officedocument.presentationml.presentation",
        "mp3" => "audio/mp3",
        "wav" => "audio/wav",
        "mp4" => "video/mp4",
        "mov" => "video/mov",
        "webm" => "video/webm",
        _ => return None,
    })
}

/// Whether files of a media type are text.
fn is_text(kind: &str) -> bool {
    const TEXT: [&str; 17] = [
        "application/csv",
        "application/ecmascript",
        "application/graphql",
        "application/javascript",
        "application/json",
        "application/jsonl",
        "application/sql",
        "application/toml",
        "application/typescript",
        "application/x-javascript",
        "application/x-ndjson",
        "application/x-python",
        "application/x-sh",
        "application/x-tex",
        "application/x-yaml",
        "application/xml",
        "application/yaml",
    ];
    kind.starts_with("text/")
        || TEXT.contains(&kind)
        || kind.ends_with("+json")
        || kind.ends_with("+xml")
}

/// The text of a Base64 file. `None` if it is not UTF-8.
fn decoded(data: &Text<'_>) -> Option<Text<'static>> {
    const LENIENT: GeneralPurpose = GeneralPurpose::new(
        &STANDARD,
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
    );
    let data = data.unescape()?;
    let bytes = if data.contains(|c: char| c.is_ascii_whitespace()) {
        LENIENT.decode(data.split_ascii_whitespace().collect::<String>())
    } else {
        LENIENT.decode(data.as_bytes())
    };
    let text = String::from_utf8(bytes.ok()?).ok()?;
    Some(Text::plain(text.strip_prefix('\u{feff}').unwrap_or(&text)).into_owned())
}
