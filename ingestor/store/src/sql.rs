//! As much of ClickHouse's SQL as must be understood to send a statement the right way: what kind it
//! is, which format it asks for, where an INSERT's rows begin, and whether it reaches for files.
//!
//! This splits text into tokens and looks at a few words. What is valid SQL, the engine decides.

use std::ops::Range;

use crate::error::{ServerError, code};

/// A statement, as far as its handling depends on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Statement {
    /// A query whose output can be streamed.
    Select { format: Option<String> },
    /// An INSERT that is followed by rows.
    Insert(Insert),
    /// Anything else: DDL, SHOW, EXPLAIN, INSERT … SELECT.
    Other { format: Option<String> },
}

/// An INSERT, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Insert {
    /// The statement without FORMAT and rows.
    pub head: String,
    /// The format of the rows.
    pub format: String,
    /// Where in the text the rows begin; the end of the text if they come separately.
    pub rows_at: usize,
    /// Whether the statement says where its rows begin, by VALUES or FORMAT. If it does not, more
    /// of it may follow.
    pub is_closed: bool,
}

/// Takes a text apart that should hold one statement.
pub(crate) fn analyse(sql: &str) -> Result<Statement, ServerError> {
    let words: Vec<Token<'_>> = SqlTokens::new(sql).collect();
    let Some(verb) = words.iter().find(|token| !token.is("(")) else {
        return Err(ServerError::syntax("Empty query"));
    };
    if verb.is_word("INSERT")
        && let Some(insert) = find_rows(sql, &words)?
    {
        return Ok(Statement::Insert(insert));
    }
    refuse_second_statement(&words)?;
    refuse_files(&words)?;
    if verb.is_word("ATTACH") {
        // ATTACH … FROM takes directories from anywhere, and moves them.
        return Err(file_access("ATTACH"));
    }
    let format = output_format(&words).map(str::to_owned);
    let queries = ["SELECT", "WITH", "FROM"];
    if queries.iter().any(|query| verb.is_word(query)) {
        Ok(Statement::Select { format })
    } else {
        Ok(Statement::Other { format })
    }
}

/// What a statement that only reads begins with.
const READING: [&str; 8] = [
    "SELECT", "WITH", "FROM", "SHOW", "DESCRIBE", "DESC", "EXPLAIN", "EXISTS",
];

/// How the settings begin that a reader may set within a statement, too: they shape what comes out, and
/// bound nothing.
const SHAPING: [&str; 9] = [
    "additional_",
    "aggregate_functions_null_",
    "date_time_",
    "format_",
    "group_by_use_",
    "join_use_",
    "optimize_use_",
    "output_format_",
    "union_default_",
];

/// Refuses what a reader may not send. The engine refuses writes by itself, but not all that changes what
/// others do (KILL QUERY), and it holds settings to a reader's limits only where they stand at the end.
/// Elsewhere those are let through that are known to be harmless, so a setting that a newer engine brings
/// is not.
pub(crate) fn refuse_writes(sql: &str) -> Result<(), ServerError> {
    let words: Vec<Token<'_>> = SqlTokens::new(sql).collect();
    let verb = words.iter().find(|token| !token.is("("));
    let reads = verb.is_some_and(|verb| READING.iter().any(|reading| verb.is_word(reading)));
    let is_parallel = |pair: &[Token<'_>]| pair[0].is_word("PARALLEL") && pair[1].is_word("WITH");
    if !reads || words.windows(2).any(is_parallel) {
        return Err(read_only("Cannot execute query in readonly mode"));
    }
    let sets = ["UNION", "INTERSECT", "EXCEPT"];
    let is_one = !words
        .iter()
        .any(|token| sets.iter().any(|set| token.is_word(set)));
    for name in settings(&words) {
        let is_held_by_engine = is_one && name.depth == 0;
        let is_shaping = SHAPING.iter().any(|shaping| name.text.starts_with(shaping));
        if name.names("profile") || !(is_held_by_engine || is_shaping) {
            let message = format!("Cannot modify {} setting here in readonly mode", name.text);
            return Err(read_only(&message));
        }
    }
    Ok(())
}

fn read_only(message: &str) -> ServerError {
    ServerError::new(code::READONLY, message)
}

/// The names that a statement's SETTINGS clauses set. A name without a value switches its setting on.
fn settings<'w, 'q>(words: &'w [Token<'q>]) -> Vec<&'w Token<'q>> {
    let mut names = Vec::new();
    let mut clause = None;
    for (at, token) in words.iter().enumerate() {
        let ends = AFTER_SETTINGS.iter().any(|after| token.is_word(after));
        clause = clause.filter(|depth| token.depth >= *depth && !ends);
        let goes_on = token.is(",") && clause == Some(token.depth);
        if let Some(name) = words.get(at + 1)
            && (token.is_word("SETTINGS") || goes_on)
            && matches!(name.kind, TokenKind::Word | TokenKind::QuotedName)
            && words.get(at + 2).is_none_or(follows_setting)
        {
            clause = Some(token.depth);
            names.push(name);
        }
    }
    names
}

/// What a clause of SETTINGS is followed by, if not by its parenthesis.
const AFTER_SETTINGS: [&str; 6] = ["UNION", "INTERSECT", "EXCEPT", "FORMAT", "INTO", "PARALLEL"];

fn follows_setting(token: &Token<'_>) -> bool {
    let symbols = ["=", ",", ")", ";"];
    symbols.iter().any(|symbol| token.is(symbol))
        || AFTER_SETTINGS.iter().any(|after| token.is_word(after))
}

/// Splits a script at its semicolons, leaving out what is only comment.
#[must_use]
pub fn split_script(script: &str) -> Vec<&str> {
    let mut statements = Vec::new();
    let mut current: Option<Range<usize>> = None;
    for token in SqlTokens::new(script) {
        if token.is(";") {
            statements.extend(current.take());
        } else {
            let start = current.map_or(token.span.start, |span| span.start);
            current = Some(start..token.span.end);
        }
    }
    statements.extend(current);
    statements.into_iter().map(|span| &script[span]).collect()
}

/// Finds where an INSERT's rows begin; None if it takes them from a query.
fn find_rows(sql: &str, words: &[Token<'_>]) -> Result<Option<Insert>, ServerError> {
    for (index, token) in words.iter().enumerate() {
        // `INSERT INTO t (SELECT …)` has its query in parentheses.
        if token.is_word("SELECT") || (token.depth == 0 && token.is_word("WITH")) {
            return Ok(None);
        }
        if token.depth > 0 {
            continue;
        }
        if token.is(";") {
            refuse_second_statement(words)?;
            break;
        }
        if token.is_word("INFILE") && index > 0 && words[index - 1].is_word("FROM") {
            return Err(file_access("FROM INFILE"));
        }
        let rows = match words.get(index + 1) {
            _ if token.is_word("VALUES") => Some(("Values", token.span.end)),
            Some(name) if token.is_word("FORMAT") && name.kind == TokenKind::Word => {
                Some((name.text, after_newline(sql, name.span.end)))
            }
            _ => None,
        };
        if let Some((format, rows_at)) = rows {
            refuse_files(&words[..index])?;
            let head = sql[..token.span.start].trim_end().to_owned();
            return Ok(Some(Insert {
                head,
                format: format.to_owned(),
                rows_at,
                is_closed: true,
            }));
        }
    }
    refuse_files(words)?;
    let head = sql.trim_end().trim_end_matches(';').to_owned();
    Ok(Some(Insert {
        head,
        format: "Values".to_owned(),
        rows_at: sql.len(),
        is_closed: false,
    }))
}

/// Rows begin after blanks and one line break, as ClickHouse reads `FORMAT name`.
fn after_newline(sql: &str, at: usize) -> usize {
    let rest = &sql[at..];
    let rest = rest.trim_start_matches([' ', '\t', '\x0c']);
    let rest = rest.strip_prefix('\r').unwrap_or(rest);
    let rest = rest.strip_prefix('\n').unwrap_or(rest);
    sql.len() - rest.len()
}

fn refuse_second_statement(words: &[Token<'_>]) -> Result<(), ServerError> {
    let mut after_end = words.iter().skip_while(|token| !token.is(";"));
    if after_end.any(|token| !token.is(";")) {
        return Err(ServerError::syntax(
            "Multi-statements are not allowed: send one statement per request",
        ));
    }
    Ok(())
}

/// The engine runs with the rights of this process and, inside a program, reads and writes any file
/// for every client that may query it. Grants withhold its table functions; these ways are left.
fn refuse_files(words: &[Token<'_>]) -> Result<(), ServerError> {
    for pair in words.windows(2) {
        let [first, second] = pair else { continue };
        if first.is_word("INTO") && second.is_word("OUTFILE") {
            return Err(ServerError::new(
                code::INTO_OUTFILE_NOT_ALLOWED,
                "INTO OUTFILE is not allowed: redirect the response instead",
            ));
        }
        if second.is("(") && first.names("file") {
            return Err(file_access("the function file"));
        }
    }
    Ok(())
}

fn file_access(what: &str) -> ServerError {
    ServerError::new(
        code::ACCESS_DENIED,
        &format!("{what} is not allowed: the embedded engine does not read files for its clients"),
    )
}

/// The format that a query asks for with FORMAT, which stands at its end or before SETTINGS.
fn output_format<'q>(words: &[Token<'q>]) -> Option<&'q str> {
    let mut found = None;
    for (index, token) in words.iter().enumerate() {
        if token.depth > 0 || !token.is_word("FORMAT") {
            continue;
        }
        let (Some(name), next) = (words.get(index + 1), words.get(index + 2)) else {
            continue;
        };
        let ends = next.is_none_or(|token| {
            token.is(";") || token.is_word("SETTINGS") || token.is_word("INTO")
        });
        if name.kind == TokenKind::Word && ends {
            found = Some(name.text);
        }
    }
    found
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TokenKind {
    /// A bare word: a keyword or a name.
    Word,
    /// A name in back ticks or double quotes.
    QuotedName,
    /// A string, a number, a heredoc.
    Literal,
    Symbol,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Token<'q> {
    kind: TokenKind,
    text: &'q str,
    span: Range<usize>,
    /// Parentheses that are open behind it.
    depth: usize,
}

impl Token<'_> {
    fn is(&self, symbol: &str) -> bool {
        self.kind == TokenKind::Symbol && self.text == symbol
    }

    fn is_word(&self, word: &str) -> bool {
        self.kind == TokenKind::Word && self.text.eq_ignore_ascii_case(word)
    }

    /// Whether this is a name, bare or quoted. A quoted name with an escape in it could spell anything.
    fn names(&self, name: &str) -> bool {
        match self.kind {
            TokenKind::Word => self.text.eq_ignore_ascii_case(name),
            TokenKind::QuotedName => {
                let text = self.text.trim_matches(['`', '"']);
                text.eq_ignore_ascii_case(name) || text.contains('\\')
            }
            TokenKind::Literal | TokenKind::Symbol => false,
        }
    }
}

/// The tokens of a text; blanks and comments are left out.
struct SqlTokens<'q> {
    sql: &'q str,
    at: usize,
    depth: usize,
}

impl<'q> SqlTokens<'q> {
    fn new(sql: &'q str) -> Self {
        Self {
            sql,
            at: 0,
            depth: 0,
        }
    }

    fn skip_blanks_and_comments(&mut self) {
        loop {
            let rest = &self.sql[self.at..];
            let blank = rest.len()
                - rest
                    .trim_start_matches(|c: char| c.is_whitespace() || c == '\0')
                    .len();
            let rest = &rest[blank..];
            let comment =
                if rest.starts_with("--") || rest.starts_with("#!") || rest.starts_with("# ") {
                    rest.find('\n').unwrap_or(rest.len())
                } else if let Some(inside) = rest.strip_prefix("/*") {
                    inside.find("*/").map_or(rest.len(), |end| end + 4)
                } else {
                    0
                };
            self.at += blank + comment;
            if comment == 0 {
                return;
            }
        }
    }
}

impl<'q> Iterator for SqlTokens<'q> {
    type Item = Token<'q>;

    fn next(&mut self) -> Option<Token<'q>> {
        self.skip_blanks_and_comments();
        let start = self.at;
        let rest = &self.sql[start..];
        let first = rest.chars().next()?;
        let (kind, len) = match first {
            '\'' => (TokenKind::Literal, quoted_len(rest, '\'')),
            '`' | '"' => (TokenKind::QuotedName, quoted_len(rest, first)),
            '$' => (TokenKind::Literal, heredoc_len(rest)),
            c if is_name_char(c) => {
                let len = rest.find(|c| !is_name_char(c)).unwrap_or(rest.len());
                let kind = if first.is_ascii_digit() {
                    TokenKind::Literal
                } else {
                    TokenKind::Word
                };
                (kind, len)
            }
            c => (TokenKind::Symbol, c.len_utf8()),
        };
        self.at = start + len;
        match first {
            '(' => self.depth += 1,
            ')' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
        Some(Token {
            kind,
            text: &rest[..len],
            span: start..self.at,
            depth: self.depth,
        })
    }
}

fn is_name_char(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Length of what is quoted, both quotes included; to the end of the text if it is never closed.
fn quoted_len(text: &str, quote: char) -> usize {
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        if c == '\\' {
            chars.next();
        } else if c == quote {
            if chars.peek().is_none_or(|(_, next)| *next != quote) {
                return at + quote.len_utf8();
            }
            chars.next();
        }
    }
    text.len()
}

/// Length of `$tag$ … $tag$`; of the dollar alone if it opens none.
fn heredoc_len(text: &str) -> usize {
    let Some(tag_end) = text[1..].find('$').map(|at| at + 2) else {
        return 1;
    };
    let tag = &text[..tag_end];
    if !tag[1..tag_end - 1].chars().all(is_name_char) {
        return 1;
    }
    text[tag_end..]
        .find(tag)
        .map_or(1, |at| tag_end + at + tag.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;

    fn select(format: Option<&str>) -> Statement {
        Statement::Select {
            format: format.map(str::to_owned),
        }
    }

    fn other(format: Option<&str>) -> Statement {
        Statement::Other {
            format: format.map(str::to_owned),
        }
    }

    fn check(sql: &str, expected: &Statement) {
        assert_eq!(&analyse(sql).unwrap(), expected, "{sql}");
    }

    fn check_insert(sql: &str, head: &str, format: &str, rows: &str) {
        let Statement::Insert(insert) = analyse(sql).unwrap() else {
            panic!("{sql} was not taken for an insert with rows")
        };
        assert_eq!(
            (insert.head.as_str(), insert.format.as_str()),
            (head, format),
            "{sql}"
        );
        assert_eq!(&sql[insert.rows_at..], rows, "{sql}");
    }

    fn check_refused(sql: &str, code: Code) {
        assert_eq!(analyse(sql).unwrap_err().code, code.number, "{sql}");
    }

    #[test]
    fn queries_are_told_from_other_statements() {
        check("select 1", &select(None));
        check("/* why */ -- how\n SELECT 1;", &select(None));
        check("(select 1) union all (select 2)", &select(None));
        check("with 1 as x select x", &select(None));
        check("from t select *", &select(None));
        check("show tables", &other(None));
        check("create table t (x Int8) engine = Memory", &other(None));
        check("insert into t select 1", &other(None));
        check("insert into t (a, b) with 1 as x select x, x", &other(None));
        check("insert into t (select 1)", &other(None));
        check("explain select 1", &other(None));
    }

    #[test]
    fn the_output_format_is_found_where_it_counts() {
        check("select 1 format JSON", &select(Some("JSON")));
        check(
            "select 1 FORMAT JSONEachRow settings max_threads = 1;",
            &select(Some("JSONEachRow")),
        );
        check("describe table t format TSV", &other(Some("TSV")));
        check("select format from t", &select(None));
        check(
            "select * from (select 1 as format) where format = 1",
            &select(None),
        );
        check("select ' format JSON'", &select(None));
        check("select 1 -- format JSON", &select(None));
        check("select \"a format JSON\"", &select(None));
    }

    #[test]
    fn an_inserts_rows_are_found() {
        check_insert(
            "insert into t format TSV\n1\t2\n",
            "insert into t",
            "TSV",
            "1\t2\n",
        );
        check_insert(
            "INSERT INTO t (a, b) FORMAT RowBinary",
            "INSERT INTO t (a, b)",
            "RowBinary",
            "",
        );
        check_insert(
            "insert into t values (1, 'x;y')",
            "insert into t",
            "Values",
            " (1, 'x;y')",
        );
        check_insert(
            "insert into t (values, format) settings async_insert = 0 format CSV\r\n1,2",
            "insert into t (values, format) settings async_insert = 0",
            "CSV",
            "1,2",
        );
        check_insert("insert into t", "insert into t", "Values", "");
        check_insert("insert into t;", "insert into t", "Values", "");
        check_insert(
            "insert into t format JSONEachRow {\"a\":1}",
            "insert into t",
            "JSONEachRow",
            "{\"a\":1}",
        );
        check_insert(
            "insert into `select` values (1)",
            "insert into `select`",
            "Values",
            " (1)",
        );
    }

    #[test]
    fn rows_may_look_like_sql() {
        check_insert(
            "insert into t format TSV\nselect ';'; select 2",
            "insert into t",
            "TSV",
            "select ';'; select 2",
        );
    }

    #[test]
    fn one_request_holds_one_statement() {
        check_refused("select 1; select 2", code::SYNTAX_ERROR);
        check_refused("insert into t; drop table t", code::SYNTAX_ERROR);
        check_refused("", code::SYNTAX_ERROR);
        check_refused(" -- nothing", code::SYNTAX_ERROR);
        check("select ';'", &select(None));
        check("select 1;;", &select(None));
        check("select $$;$$ as x", &select(None));
        check("select $a$ ; $b$ ; $a$", &select(None));
    }

    #[test]
    fn files_are_out_of_reach() {
        check_refused(
            "select * from t into outfile '/tmp/x'",
            code::INTO_OUTFILE_NOT_ALLOWED,
        );
        check_refused(
            "select 1 INTO\n/**/OUTFILE 'x'",
            code::INTO_OUTFILE_NOT_ALLOWED,
        );
        check_refused("select file('/etc/passwd')", code::ACCESS_DENIED);
        check_refused("select `file` ('/etc/passwd')", code::ACCESS_DENIED);
        check_refused("select \"fi\\x6ce\"('/etc/passwd')", code::ACCESS_DENIED);
        check_refused("create function f as x -> File(x)", code::ACCESS_DENIED);
        check_refused(
            "insert into t from infile '/etc/passwd' format TSV",
            code::ACCESS_DENIED,
        );
        check_refused(
            "insert into function file('/tmp/x') values (1)",
            code::ACCESS_DENIED,
        );
        check("select file from t", &select(None));
        check("select 'file(1)'", &select(None));
    }

    #[test]
    fn readers_only_read() {
        let refused = |sql: &str| refuse_writes(sql).is_err_and(|error| error.code == 164);
        for sql in [
            "select 1",
            "(select 1)",
            "with x as (select 1) select * from x settings max_threads = 1, join_use_nulls = 1",
            "from t select a, profile = 'x'",
            "show tables",
            "describe t",
            "explain select 1",
            "exists t",
            "select * from (select * from system.settings where name = 'profile')",
            "select * from (select 1 settings join_use_nulls = 1)",
            "select 1 union all select 2 settings additional_table_filters = {'t': 'a = 1'}",
            "select 1 union all select 2 settings date_time_output_format = 'iso'",
            "select * from (select 1 settings join_use_nulls)",
            "select * from (select settings, countIf(a, b = 1) from t) as x, y where f(c, d)",
            "select * from (select 1 settings join_use_nulls = 1 union all select a, b, c from t)",
        ] {
            assert!(!refused(sql), "{sql}");
        }
        for sql in [
            "kill query where 1",
            "insert into t values (1)",
            "drop table t",
            "alter table t delete where 1",
            "create temporary table t (a Int8)",
            "set readonly = 0",
            "system flush logs",
            "",
            "select 1 parallel with kill query where 1",
            "select 1 settings profile = 'reader'",
            "select 1 settings join_use_nulls = 1, `Profile` = 'reader'",
            "select 1 settings \"pro\\x66ile\" = 'reader'",
            "select * from (select 1 settings max_memory_usage = 1)",
            "select 1 settings max_memory_usage = 1 union all select 2",
            "select * from (select 1 settings a_setting_of_tomorrow = 1)",
            "select * from (select 1 settings join_use_nulls = 1, a_setting_of_tomorrow = 1)",
            "select 1 union all select 2 settings a_setting_of_tomorrow = 1",
            "select * from (select 1 settings `join_use_nulls` = 1)",
            "select * from (select 1 settings a_setting_of_tomorrow)",
            "select * from (select 1 settings join_use_nulls, a_setting_of_tomorrow)",
            "select 1 union all select 2 settings a_setting_of_tomorrow",
            "select 1 union all select 2 settings a_setting_of_tomorrow format TSV",
            "select 1 settings profile",
        ] {
            assert!(refused(sql), "{sql}");
        }
    }

    #[test]
    fn scripts_are_split_at_their_semicolons() {
        assert_eq!(
            split_script("-- head; of it\nselect 1; select ';' /* ; */;\n\n select 3 -- ;\n"),
            ["select 1", "select ';'", "select 3"]
        );
        assert!(split_script(" ; -- \n").is_empty());
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(sql in ".{0,64}") {
            let _ = analyse(&sql);
            let _ = refuse_writes(&sql);
            let _ = split_script(&sql);
        }

        #[test]
        fn no_mixture_of_its_own_words_makes_it_panic(
            words in proptest::collection::vec(
                proptest::sample::select(vec![
                    "insert", "into", "format", "values", "(", ")", ";", "'", "\"", "`", "\\", "$",
                    "$$", "$a$", "--", "/*", "*/", "\n", " ", "file", "select", "é", "TSV", "\0",
                ]),
                0..24,
            )
        ) {
            let sql = words.concat();
            if let Ok(Statement::Insert(insert)) = analyse(&sql) {
                proptest::prop_assert!(sql.is_char_boundary(insert.rows_at));
            }
        }
    }
}
