//! The named queries: what the pages ask of the store. Each is a file in `queries/`; a row of the table
//! here says who may ask it, and which filters it has.

use crate::gateway::TokenRole;
use crate::selection::Dimensions;

/// Who may ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readers {
    /// Team owners too, who see their team's rows.
    Everyone,
    /// What cannot be told apart by team.
    NotTeamOwners,
    /// Prompts and answers: admins and auditors.
    Payloads,
}

impl Readers {
    pub(crate) const fn has(self, role: TokenRole) -> bool {
        match self {
            Self::Everyone => true,
            Self::NotTeamOwners => !matches!(role, TokenRole::TeamOwner),
            Self::Payloads => matches!(role, TokenRole::Admin | TokenRole::Auditor),
        }
    }
}

/// One of them.
///
/// In its SQL `$rows` stands for the rows in the range that the caller may see and the filters let
/// through, `$scope` for the same without the range, and `{from:DateTime64(6,'UTC')}`, `{to:…}`,
/// `{bucket_s:UInt32}`, `{rows_max:UInt32}` for those values. Every table that a query for everyone
/// reads must stand under a `$rows` or `$scope` of its own.
#[derive(Debug)]
pub(crate) struct NamedQuery {
    pub(crate) name: &'static str,
    pub(crate) sql: &'static str,
    pub(crate) dimensions: Dimensions,
    pub(crate) readers: Readers,
    /// Further parameters, with their types: UUID, UInt64 or String.
    pub(crate) parameters: &'static [(&'static str, &'static str)],
}

pub(crate) const QUERIES: &[NamedQuery] = &[
    NamedQuery {
        name: "audit_calls",
        sql: include_str!("queries/audit_calls.sql"),
        dimensions: Dimensions::Requests,
        readers: Readers::Everyone,
        parameters: &[],
    },
    NamedQuery {
        name: "audit_fallback",
        sql: include_str!("queries/audit_fallback.sql"),
        dimensions: Dimensions::Attempts,
        readers: Readers::Everyone,
        parameters: &[],
    },
    NamedQuery {
        name: "audit_gateways",
        sql: include_str!("queries/audit_gateways.sql"),
        dimensions: Dimensions::None,
        readers: Readers::NotTeamOwners,
        parameters: &[],
    },
    NamedQuery {
        name: "audit_incomplete_streams",
        sql: include_str!("queries/audit_incomplete_streams.sql"),
        dimensions: Dimensions::None,
        readers: Readers::NotTeamOwners,
        parameters: &[],
    },
    NamedQuery {
        name: "audit_most_expensive",
        sql: include_str!("queries/audit_most_expensive.sql"),
        dimensions: Dimensions::Requests,
        readers: Readers::Everyone,
        parameters: &[],
    },
    NamedQuery {
        name: "audit_new_addresses",
        sql: include_str!("queries/audit_new_addresses.sql"),
        dimensions: Dimensions::Requests,
        readers: Readers::Everyone,
        parameters: &[],
    },
    NamedQuery {
        name: "audit_proof",
        sql: include_str!("queries/audit_proof.sql"),
        dimensions: Dimensions::None,
        readers: Readers::NotTeamOwners,
        parameters: &[],
    },
    NamedQuery {
        name: "audit_trace",
        sql: include_str!("queries/audit_trace.sql"),
        dimensions: Dimensions::Requests,
        readers: Readers::Everyone,
        parameters: &[("trace_id", "String")],
    },
    NamedQuery {
        name: "audit_unpriced",
        sql: include_str!("queries/audit_unpriced.sql"),
        dimensions: Dimensions::Requests,
        readers: Readers::Everyone,
        parameters: &[],
    },
    NamedQuery {
        name: "audit_waste",
        sql: include_str!("queries/audit_waste.sql"),
        dimensions: Dimensions::Attempts,
        readers: Readers::Everyone,
        parameters: &[],
    },
    NamedQuery {
        name: "audit_who_called_what",
        sql: include_str!("queries/audit_who_called_what.sql"),
        dimensions: Dimensions::Requests,
        readers: Readers::Everyone,
        parameters: &[],
    },
    NamedQuery {
        name: "audit_who_changed_what",
        sql: include_str!("queries/audit_who_changed_what.sql"),
        dimensions: Dimensions::None,
        readers: Readers::NotTeamOwners,
        parameters: &[],
    },
    NamedQuery {
        name: "audit_without_key",
        sql: include_str!("queries/audit_without_key.sql"),
        dimensions: Dimensions::None,
        readers: Readers::NotTeamOwners,
        parameters: &[],
    },
    NamedQuery {
        name: "pipeline_dead_letters",
        sql: include_str!("queries/pipeline_dead_letters.sql"),
        dimensions: Dimensions::None,
        readers: Readers::NotTeamOwners,
        parameters: &[],
    },
    NamedQuery {
        name: "pipeline_ingest",
        sql: include_str!("queries/pipeline_ingest.sql"),
        dimensions: Dimensions::None,
        readers: Readers::NotTeamOwners,
        parameters: &[],
    },
    NamedQuery {
        name: "pipeline_lag",
        sql: include_str!("queries/pipeline_lag.sql"),
        dimensions: Dimensions::None,
        readers: Readers::NotTeamOwners,
        parameters: &[],
    },
    NamedQuery {
        name: "pipeline_streams",
        sql: include_str!("queries/pipeline_streams.sql"),
        dimensions: Dimensions::None,
        readers: Readers::NotTeamOwners,
        parameters: &[],
    },
    NamedQuery {
        name: "pipeline_tables",
        sql: include_str!("queries/pipeline_tables.sql"),
        dimensions: Dimensions::None,
        readers: Readers::NotTeamOwners,
        parameters: &[],
    },
    NamedQuery {
        name: "request",
        sql: include_str!("queries/request.sql"),
        dimensions: Dimensions::Requests,
        readers: Readers::Everyone,
        parameters: &[("request_id", "UUID")],
    },
    NamedQuery {
        name: "request_attempts",
        sql: include_str!("queries/request_attempts.sql"),
        dimensions: Dimensions::Attempts,
        readers: Readers::Everyone,
        parameters: &[("request_id", "UUID")],
    },
    NamedQuery {
        name: "request_corrections",
        sql: include_str!("queries/request_corrections.sql"),
        dimensions: Dimensions::Requests,
        readers: Readers::Everyone,
        parameters: &[("request_id", "UUID")],
    },
    NamedQuery {
        name: "request_ejected",
        sql: include_str!("queries/request_ejected.sql"),
        dimensions: Dimensions::Requests,
        readers: Readers::Everyone,
        parameters: &[("request_id", "UUID")],
    },
    NamedQuery {
        name: "request_payload",
        sql: include_str!("queries/request_payload.sql"),
        dimensions: Dimensions::Requests,
        readers: Readers::Payloads,
        parameters: &[("request_id", "UUID")],
    },
    NamedQuery {
        name: "request_routing_table",
        sql: include_str!("queries/request_routing_table.sql"),
        dimensions: Dimensions::Requests,
        readers: Readers::Everyone,
        parameters: &[("request_id", "UUID")],
    },
    NamedQuery {
        name: "request_seals",
        sql: include_str!("queries/request_seals.sql"),
        dimensions: Dimensions::Requests,
        readers: Readers::Everyone,
        parameters: &[("request_id", "UUID")],
    },
    NamedQuery {
        name: "routing_share",
        sql: include_str!("queries/routing_share.sql"),
        dimensions: Dimensions::Requests,
        readers: Readers::NotTeamOwners,
        parameters: &[],
    },
    NamedQuery {
        name: "routing_states",
        sql: include_str!("queries/routing_states.sql"),
        dimensions: Dimensions::None,
        readers: Readers::NotTeamOwners,
        parameters: &[],
    },
    NamedQuery {
        name: "spend_and_waste_by_day",
        sql: include_str!("queries/spend_and_waste_by_day.sql"),
        dimensions: Dimensions::Usage,
        readers: Readers::Everyone,
        parameters: &[],
    },
    NamedQuery {
        name: "top_spenders",
        sql: include_str!("queries/top_spenders.sql"),
        dimensions: Dimensions::Usage,
        readers: Readers::Everyone,
        parameters: &[],
    },
    NamedQuery {
        name: "traffic_by_hour",
        sql: include_str!("queries/traffic_by_hour.sql"),
        dimensions: Dimensions::Usage,
        readers: Readers::Everyone,
        parameters: &[],
    },
    NamedQuery {
        name: "traffic_in_total",
        sql: include_str!("queries/traffic_in_total.sql"),
        dimensions: Dimensions::Usage,
        readers: Readers::Everyone,
        parameters: &[],
    },
    NamedQuery {
        name: "usage_provenance",
        sql: include_str!("queries/usage_provenance.sql"),
        dimensions: Dimensions::Requests,
        readers: Readers::Everyone,
        parameters: &[],
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_query_says_what_it_answers_and_is_bounded() {
        for query in QUERIES {
            let (name, sql) = (query.name, query.sql);
            assert!(sql.starts_with("-- "), "{name} begins with a comment");
            assert!(sql.contains("LIMIT "), "{name} has a LIMIT");
            let mut statement = sql.lines().filter(|line| !line.starts_with("--"));
            assert!(
                !statement.any(|line| line.contains(';')),
                "{name} is one statement"
            );
            let same = QUERIES.iter().filter(|other| other.name == name);
            assert_eq!(same.count(), 1, "{name} is there once");
        }
    }

    #[test]
    fn what_everyone_may_ask_is_bound_to_what_everyone_may_see() {
        for query in QUERIES {
            let is_bound = query.sql.contains("$rows") || query.sql.contains("$scope");
            let is_open = query.readers == Readers::Everyone;
            assert!(
                is_bound || !is_open,
                "{} has no $rows or $scope",
                query.name
            );
        }
    }
}
