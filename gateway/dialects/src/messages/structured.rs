//! The schemas that constrain what Claude writes: the answer's format and strict tools.

use crate::generations::Generation;
use crate::neutral::{Feature, Format, LossReport, Request, Tool};
use crate::schema::{ClaudeSchema, claude_schema};

// What all such schemas of a request may have together
// (platform.claude.com/docs/en/build-with-claude/structured-outputs, "Schema complexity limits").
const STRICT_TOOLS_MAX: usize = 20;
const OPTIONAL_MAX: usize = 24;
const UNIONS_MAX: usize = 16;

/// The schemas in Claude's form.
#[derive(Debug, Default)]
pub(super) struct StructuredOutput {
    pub(super) format: Option<String>,
    /// The schema of each tool, in the order of the tools; `None` for one that is not strict.
    tools: Vec<Option<String>>,
    strict_tools: usize,
    optional: usize,
    unions: usize,
}

impl StructuredOutput {
    pub(super) fn of(
        request: &Request<'_>,
        generation: &Generation,
        report: &mut LossReport,
    ) -> Self {
        let mut output = Self::default();
        output.add_format(request.format.as_ref(), generation.schemas, report);
        if request.has_strict_tools() {
            let tools = request.tools.iter();
            let schemas =
                tools.map(|tool| output.strict_schema(tool, generation.strict_tools, report));
            output.tools = schemas.collect();
        }
        output
    }

    /// The schema of a tool that is strict.
    pub(super) fn of_tool(&self, index: usize) -> Option<&str> {
        self.tools.get(index)?.as_deref()
    }

    fn add_format(
        &mut self,
        format: Option<&Format<'_>>,
        is_capable: bool,
        report: &mut LossReport,
    ) {
        match format {
            None => {}
            // Claude cannot guarantee JSON without a schema.
            Some(Format::JsonObject) => {
                let instead = "`json_schema`, which it guarantees";
                report.unsupported_but(Feature::Format, "json_object", instead);
            }
            Some(Format::JsonSchema(_)) if !is_capable => report.unsupported(Feature::Format),
            Some(Format::JsonSchema(format)) => {
                report.approximated_if(format.description.is_some(), Feature::FormatDescription);
                let schema = claude_schema(format.schema);
                match schema.unsupported.or_else(|| self.excess(&schema)) {
                    Some(what) => report.unsupported_kind(Feature::FormatSchema, what),
                    None => self.format = Some(self.add(schema, Feature::FormatSchema, report)),
                }
            }
        }
    }

    fn strict_schema(
        &mut self,
        tool: &Tool<'_>,
        is_capable: bool,
        report: &mut LossReport,
    ) -> Option<String> {
        if tool.strict != Some(true) {
            return None;
        }
        let schema = Some(claude_schema(&tool.schema)).filter(|schema| {
            is_capable
                && self.strict_tools < STRICT_TOOLS_MAX
                && schema.unsupported.is_none()
                && self.excess(schema).is_none()
        });
        let Some(schema) = schema else {
            report.approximated(Feature::StrictTools);
            return None;
        };
        self.strict_tools += 1;
        Some(self.add(schema, Feature::ToolSchema, report))
    }

    /// What there would be too much of with a further schema.
    fn excess(&self, schema: &ClaudeSchema) -> Option<&'static str> {
        if self.optional + schema.optional > OPTIONAL_MAX {
            return Some("more than 24 optional properties");
        }
        let is_over = self.unions + schema.unions > UNIONS_MAX;
        is_over.then_some("more than 16 properties of several types")
    }

    fn add(&mut self, schema: ClaudeSchema, feature: Feature, report: &mut LossReport) -> String {
        self.optional += schema.optional;
        self.unions += schema.unions;
        if !schema.described.is_empty() {
            report.approximated_kind(feature, &schema.described.join(", "));
        }
        schema.json
    }
}
