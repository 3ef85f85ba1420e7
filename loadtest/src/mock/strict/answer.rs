//! The error that a provider answers a violation with: status and envelope.

use serde_json::json;

use super::{Complaint, StrictApi, Violation};

impl Violation {
    /// Status and body of the error.
    #[must_use]
    pub fn answer(&self, vendor: &str, api: StrictApi) -> (u16, String) {
        match (vendor, api) {
            (_, StrictApi::Messages | StrictApi::CountTokens) => (400, self.anthropic()),
            (
                _,
                StrictApi::GenerateContent
                | StrictApi::StreamGenerateContent
                | StrictApi::GeminiCountTokens
                | StrictApi::BatchEmbedContents,
            ) => (400, self.google()),
            ("mistral", _) => (422, self.mistral()),
            _ => (400, self.openai()),
        }
    }

    /// The rule and its page, for the end of a message.
    fn rule_and_page(&self) -> String {
        format!("[{}, {}]", self.rule.name, self.rule.source)
    }

    fn anthropic(&self) -> String {
        let path = self.path.dotted();
        let problem = match &self.problem {
            Complaint::Unknown => "Extra inputs are not permitted".to_owned(),
            Complaint::Missing => "Field required".to_owned(),
            Complaint::Type { expected, .. } => format!("Input should be {expected}"),
            Complaint::Value(problem) => problem.clone(),
        };
        let message = format!("{path}: {problem} {}", self.rule_and_page());
        json!({
            "type": "error",
            "error": {"type": "invalid_request_error", "message": message},
            "request_id": null,
        })
        .to_string()
    }

    fn openai(&self) -> String {
        let path = self.path.bracketed();
        let (code, problem) = match &self.problem {
            Complaint::Unknown => ("unknown_parameter", format!("Unknown parameter: '{path}'.")),
            Complaint::Missing => (
                "missing_required_parameter",
                format!("Missing required parameter: '{path}'."),
            ),
            Complaint::Type { expected, found } => (
                "invalid_type",
                format!("Invalid type for '{path}': expected {expected}, but got {found} instead."),
            ),
            Complaint::Value(problem) => ("invalid_value", format!("Invalid '{path}': {problem}")),
        };
        let message = format!("{problem} {}", self.rule_and_page());
        json!({
            "error": {
                "message": message,
                "type": "invalid_request_error",
                "param": path,
                "code": code,
            }
        })
        .to_string()
    }

    fn google(&self) -> String {
        let path = self.path.bracketed();
        let problem = match &self.problem {
            Complaint::Unknown => format!(
                "Invalid JSON payload received. Unknown name \"{path}\": Cannot find field."
            ),
            Complaint::Missing => format!("{path} is required."),
            Complaint::Type { expected, .. } => {
                format!("Invalid value at '{path}', expected {expected}.")
            }
            Complaint::Value(problem) => format!("{path}: {problem}"),
        };
        let message = format!("{problem} {}", self.rule_and_page());
        let error = json!({"code": 400, "message": message, "status": "INVALID_ARGUMENT"});
        json!({ "error": error }).to_string()
    }

    fn mistral(&self) -> String {
        let (kind, problem) = match &self.problem {
            Complaint::Unknown => (
                "extra_forbidden",
                "Extra inputs are not permitted".to_owned(),
            ),
            Complaint::Missing => ("missing", "Field required".to_owned()),
            Complaint::Type { expected, .. } => ("type", format!("Input should be {expected}")),
            Complaint::Value(problem) => ("value_error", problem.clone()),
        };
        let message = format!("{problem} {}", self.rule_and_page());
        let place: Vec<_> = std::iter::once("body".to_owned())
            .chain(self.path.dotted().split('.').map(str::to_owned))
            .collect();
        let detail = json!([{"type": kind, "loc": place, "msg": message}]);
        json!({
            "object": "error",
            "message": {"detail": detail},
            "type": "invalid_request_error",
            "param": null,
            "code": null,
        })
        .to_string()
    }
}
