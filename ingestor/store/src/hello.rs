//! The first question of ClickHouse's Go client, which Grafana's data source is built on.
//!
//! That client asks for Native output of a newer revision (`client_protocol_version`), in which
//! blocks carry more than they do in revision 0; the embedded engine writes revision 0 only. But the
//! client's first question is which revision the server has, and from then on it reads as much as
//! the answer says. So this one question is answered here, in the form that the client expects it
//! in, and the answer is: revision 0.
//!
//! Checked with clickhouse-go 2 (`conn_http.go`, `queryHello`).

use bytes::{BufMut, Bytes, BytesMut};

use crate::block;
use crate::run::QueryJob;

/// The question, as it is asked.
const QUESTION: &str = "SELECT displayName(), version(), revision(), timezone()";

/// The answer, if this is the question.
pub(crate) fn answer(job: &QueryJob, version: &str) -> Option<Bytes> {
    let asked = job.request.native_revision > 0 && job.request.query.trim() == QUESTION;
    asked.then(|| {
        let answer = native_block(version);
        if job.request.compress {
            block::encode(&answer)
        } else {
            answer
        }
    })
}

/// One row, as Native has it from revision 54454 on.
fn native_block(version: &str) -> Bytes {
    let mut block = BytesMut::new();
    // Block info: not an overflow, no bucket; then columns and rows.
    block.put_slice(&[1, 0, 2]);
    block.put_i32_le(-1);
    block.put_slice(&[0, 4, 1]);
    put_column(&mut block, "displayName()", "String", &text("weir"));
    put_column(&mut block, "version()", "String", &text(version));
    put_column(&mut block, "revision()", "UInt32", &0_u32.to_le_bytes());
    put_column(&mut block, "timezone()", "String", &text("UTC"));
    block.freeze()
}

fn put_column(block: &mut BytesMut, name: &str, kind: &str, data: &[u8]) {
    block.put_slice(&text(name));
    block.put_slice(&text(kind));
    // The usual serialization.
    block.put_u8(0);
    block.put_slice(data);
}

/// A short text with its length before it.
fn text(text: &str) -> Vec<u8> {
    let text = &text.as_bytes()[..text.len().min(127)];
    let mut bytes = vec![0; 1 + text.len()];
    // One byte of LEB128 holds up to 127.
    bytes[0] = u8::try_from(text.len()).unwrap_or_default();
    bytes[1..].copy_from_slice(text);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_a_block_with_its_info() {
        let block = native_block("26.7.2.1");
        let expected = b"\x01\0\x02\xff\xff\xff\xff\0\x04\x01\
            \x0ddisplayName()\x06String\0\x04weir\
            \x09version()\x06String\0\x0826.7.2.1\
            \x0arevision()\x06UInt32\0\0\0\0\0\
            \x0atimezone()\x06String\0\x03UTC";
        assert_eq!(block, expected.as_slice());
    }
}
