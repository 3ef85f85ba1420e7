//! The ClickHouse engine inside this process: `libchdb.so`, loaded at run time.
//!
//! The way through: [`Library::load`] maps the library and resolves its functions,
//! [`EmbeddedEngine::open`] starts the engine on a directory, [`EmbeddedEngine::connect`] gives an
//! [`EngineConnection`], and a connection answers a statement at once
//! ([`EngineConnection::execute`]), in chunks ([`EngineConnection::stream`]), or takes rows in chunks
//! ([`EngineConnection::insert`]).
//!
//! All unsafe code of Weir is in this file: calls of the library's C functions, and the reading of
//! the memory they return. The types around them make misuse impossible: a stream borrows its
//! connection, a connection keeps the engine open, a result frees itself.
//!
//! What it never does: unload the library (the engine's threads would run into the hole), call one
//! connection from two threads at once, or leave the engine open when the process ends (exiting with
//! a connection open crashes in the engine's destructors).
//!
//! The signatures are those of `programs/local/chdb.h` in chdb-io/chdb-core, version 26.7.
#![expect(unsafe_code, reason = "the engine is a C library")]

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::slice;
use std::sync::Arc;

use crate::error::ServerError;

/// Version of the npm package that holds the library.
pub const PACKAGE_VERSION: &str = "26.7.3-stable.1";

/// Why the library cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    #[error("load {}: {source}", path.display())]
    Open {
        path: PathBuf,
        source: libloading::Error,
    },
    #[error("{} is not the engine's library: it lacks the function {symbol}", path.display())]
    Symbol { path: PathBuf, symbol: &'static str },
}

/// Why the engine did not start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{0} contains a NUL byte")]
    NulInArgument(&'static str),
    #[error("the engine refused to start on {}; its log says why", .0.display())]
    Refused(PathBuf),
    #[error("the engine started, but does not answer: {0}")]
    Mute(ServerError),
}

/// A library that is mapped into this process for the rest of its life.
#[derive(Clone, Copy)]
pub(crate) struct Library {
    abi: &'static Abi,
}

impl Library {
    pub(crate) fn load(path: &Path) -> Result<Self, LoadError> {
        // SAFETY: running the initialisers of this library is what loading the engine means; they
        // assume nothing of the process. A user who can replace the file can replace the program.
        let library =
            unsafe { libloading::Library::new(path) }.map_err(|source| LoadError::Open {
                path: path.to_owned(),
                source,
            })?;
        let abi = Abi::resolve(&library).map_err(|symbol| LoadError::Symbol {
            path: path.to_owned(),
            symbol,
        })?;
        // The engine starts threads that outlive every object here: the code must stay mapped.
        std::mem::forget(library);
        Ok(Self {
            abi: Box::leak(Box::new(abi)),
        })
    }
}

/// A running engine. There is at most one in a process.
///
/// Connections keep it running too: it stops when [`EmbeddedEngine::close`] was called, or this was dropped,
/// and the last connection is gone.
pub(crate) struct EmbeddedEngine {
    /// Held so that the engine outlives every other connection.
    root: EngineConnection,
    version: String,
}

impl EmbeddedEngine {
    /// Starts the engine on a directory, which only one process at a time can have open, with a
    /// configuration file in ClickHouse's own format.
    pub(crate) fn open(
        library: Library,
        data_dir: &Path,
        config_file: &Path,
    ) -> Result<Self, OpenError> {
        let path =
            argument("--path=", data_dir).ok_or(OpenError::NulInArgument("the data directory"))?;
        let config_file = argument("--config-file=", config_file)
            .ok_or(OpenError::NulInArgument("the engine's configuration file"))?;
        // SAFETY: the function takes a flag and stores it. It must come before the first connect.
        unsafe { (library.abi.set_signal_handlers_enabled)(0) };
        let mut root = EngineConnection::open(library, Arc::new(path), Some(&config_file))
            .ok_or_else(|| OpenError::Refused(data_dir.to_owned()))?;
        let version = root
            .execute("SELECT version()", "RawBLOB", &[])
            .map_err(OpenError::Mute)?;
        let version = String::from_utf8_lossy(version.as_ref()).trim().to_owned();
        Ok(Self { root, version })
    }

    /// Opens one more connection: a session with settings of its own. Takes about 0.1 ms.
    pub(crate) fn connect(&self) -> Result<EngineConnection, ServerError> {
        let path = Arc::clone(&self.root.path_argument);
        EngineConnection::open(self.root.library, path, None)
            .ok_or_else(|| ServerError::internal("the engine refused a connection"))
    }

    /// Version of ClickHouse, such as `26.7.2.1`.
    pub(crate) fn version(&self) -> &str {
        &self.version
    }

    /// Closes the engine; its data is all on disk then. It cannot be started again in this process.
    ///
    /// Threads of its pools may remain; with no connection open, the process can end over them.
    pub(crate) fn close(self) {
        let library = self.root.library;
        drop(self);
        // SAFETY: it takes no arguments. What it could not stop, the engine logs.
        unsafe { (library.abi.shutdown)() };
    }
}

/// `--name=value` as the engine's command line wants it.
fn argument(name: &str, value: &Path) -> Option<CString> {
    let mut argument = name.as_bytes().to_vec();
    argument.extend_from_slice(value.as_os_str().as_encoded_bytes());
    CString::new(argument).ok()
}

/// One session of the engine. It does one thing at a time.
pub(crate) struct EngineConnection {
    library: Library,
    /// What `chdb_connect` returned: the address of the handle.
    handle: NonNull<ConnectionHandle>,
    path_argument: Arc<CString>,
}

// SAFETY: the engine guards a connection with a mutex and attaches the calling thread for the time
// of each call, so a connection may move between threads. It is not `Sync`: all methods that reach
// the engine take `&mut self`.
unsafe impl Send for EngineConnection {}
// SAFETY: nothing can be done with a shared reference but to print it and to open a further
// connection, and `chdb_connect` is safe from any thread.
unsafe impl Sync for EngineConnection {}

impl EngineConnection {
    fn open(library: Library, path: Arc<CString>, config: Option<&CString>) -> Option<Self> {
        let mut argv: Vec<*mut c_char> = [c"weir", path.as_c_str()]
            .into_iter()
            .chain(config.map(CString::as_c_str))
            .map(|argument| argument.as_ptr().cast_mut())
            .collect();
        let argc = c_int::try_from(argv.len()).ok()?;
        // SAFETY: argv holds argc pointers to NUL-terminated strings that live until the call
        // returns; the engine copies them and writes to none.
        let handle = unsafe { (library.abi.connect)(argc, argv.as_mut_ptr()) };
        Some(Self {
            library,
            handle: NonNull::new(handle)?,
            path_argument: path,
        })
    }

    fn raw(&mut self) -> ConnectionHandle {
        // SAFETY: the pointer came from chdb_connect and is only given back in drop.
        unsafe { *self.handle.as_ptr() }
    }

    /// Runs a statement to its end and returns all of its output.
    pub(crate) fn execute(
        &mut self,
        sql: &str,
        format: &str,
        params: &[(String, String)],
    ) -> Result<ResultChunk, ServerError> {
        let result = self.call(self.library.abi.query_with_params_n, sql, format, params);
        ResultChunk::new(self.library, result)
    }

    /// Starts a SELECT whose output comes in chunks. Other statements are refused by the engine.
    pub(crate) fn stream(
        &mut self,
        sql: &str,
        format: &str,
        params: &[(String, String)],
    ) -> Result<QueryStream<'_>, ServerError> {
        let start = self.library.abi.stream_query_with_params_n;
        let result = self.call(start, sql, format, params);
        let stream = ResultChunk::new(self.library, result)?;
        Ok(QueryStream {
            connection: self,
            stream,
            finished: false,
        })
    }

    /// Starts an INSERT that takes its rows in chunks. The statement has no FORMAT and no data.
    ///
    /// After a failed insert the connection must not be used again: the engine leaves it inside the
    /// statement.
    pub(crate) fn insert(
        &mut self,
        sql: &str,
        format: &str,
        params: &[(String, String)],
    ) -> Result<InsertStream<'_>, ServerError> {
        let start = self.library.abi.stream_insert_with_params_n;
        let handle = NonNull::new(self.call(start, sql, format, params))
            .ok_or_else(|| ServerError::internal("the engine returned no insert stream"))?;
        // SAFETY: the handle is alive; the text is copied before anything else is called.
        let error = unsafe { text((self.library.abi.stream_insert_error)(handle.as_ptr())) };
        let insert = InsertStream {
            connection: self,
            handle,
            finished: error.is_some(),
        };
        match error {
            None => Ok(insert),
            Some(message) => Err(ServerError::from_engine(&message)),
        }
    }

    /// Calls the function of the library that runs or starts a statement in some way.
    fn call<R>(
        &mut self,
        function: WithParams<R>,
        sql: &str,
        format: &str,
        params: &[(String, String)],
    ) -> R {
        let names: Vec<_> = params.iter().map(|it| it.0.as_ptr().cast()).collect();
        let name_lens: Vec<_> = params.iter().map(|it| it.0.len()).collect();
        let values: Vec<_> = params.iter().map(|it| it.1.as_ptr().cast()).collect();
        let value_lens: Vec<_> = params.iter().map(|it| it.1.len()).collect();
        // SAFETY: the function is one of the library's. Every pointer is to memory that lives
        // through the call, and comes with its length. The engine copies what it needs.
        unsafe {
            function(
                self.raw(),
                sql.as_ptr().cast(),
                sql.len(),
                format.as_ptr().cast(),
                format.len(),
                names.as_ptr(),
                name_lens.as_ptr(),
                values.as_ptr(),
                value_lens.as_ptr(),
                params.len(),
            )
        }
    }
}

impl Drop for EngineConnection {
    fn drop(&mut self) {
        // SAFETY: the handle came from chdb_connect and is given back once. No stream of it is
        // left: they borrow the connection.
        unsafe { (self.library.abi.close_conn)(self.handle.as_ptr()) };
    }
}

/// A running SELECT.
pub(crate) struct QueryStream<'c> {
    connection: &'c mut EngineConnection,
    stream: ResultChunk,
    finished: bool,
}

impl QueryStream<'_> {
    /// Waits for the next chunk: a complete document in the format asked for. None is the end.
    pub(crate) fn next_chunk(&mut self) -> Result<Option<ResultChunk>, ServerError> {
        if self.finished {
            return Ok(None);
        }
        let connection = self.connection.raw();
        let library = self.connection.library;
        // SAFETY: both handles are alive, and this connection is borrowed mutably, so that no other
        // call on it runs.
        let result =
            unsafe { (library.abi.stream_fetch_result)(connection, self.stream.handle.as_ptr()) };
        let chunk = ResultChunk::new(library, result).inspect_err(|_| self.finished = true)?;
        if chunk.as_ref().is_empty() {
            self.finished = true;
            return Ok(None);
        }
        Ok(Some(chunk))
    }
}

impl Drop for QueryStream<'_> {
    fn drop(&mut self) {
        if !self.finished {
            let connection = self.connection.raw();
            // SAFETY: as in next_chunk.
            unsafe {
                (self.connection.library.abi.stream_cancel_query)(
                    connection,
                    self.stream.handle.as_ptr(),
                );
            }
        }
    }
}

/// A running INSERT.
pub(crate) struct InsertStream<'c> {
    connection: &'c mut EngineConnection,
    handle: NonNull<c_void>,
    finished: bool,
}

impl InsertStream<'_> {
    /// Hands over bytes in the insert's format, split anywhere. Blocks while the engine is behind.
    ///
    /// Returns false once the engine has given the insert up; [`InsertStream::finish`] says why.
    #[must_use]
    pub(crate) fn append(&mut self, data: &[u8]) -> bool {
        // SAFETY: the handle is alive, and the engine copies the bytes before it returns.
        let state = unsafe {
            (self.connection.library.abi.stream_append)(
                self.handle.as_ptr(),
                data.as_ptr().cast(),
                data.len(),
            )
        };
        state == ABI_SUCCESS
    }

    /// Ends the data and waits until the rows are stored.
    pub(crate) fn finish(mut self) -> Result<ResultChunk, ServerError> {
        self.finished = true;
        // SAFETY: the handle is alive and was not finished before: this takes self.
        let result = unsafe { (self.connection.library.abi.stream_done)(self.handle.as_ptr()) };
        ResultChunk::new(self.connection.library, result)
    }
}

impl Drop for InsertStream<'_> {
    fn drop(&mut self) {
        let abi = self.connection.library.abi;
        if !self.finished {
            // SAFETY: the handle is alive.
            unsafe { (abi.stream_cancel_insert)(self.handle.as_ptr()) };
        }
        // SAFETY: every handle is destroyed exactly once, here.
        unsafe { (abi.destroy_insert_stream)(self.handle.as_ptr()) };
    }
}

/// What the engine did for a statement or a chunk of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct QueryProgress {
    pub read_rows: u64,
    pub read_bytes: u64,
    pub written_rows: u64,
    pub written_bytes: u64,
    pub result_rows: u64,
}

impl std::ops::AddAssign for QueryProgress {
    fn add_assign(&mut self, more: Self) {
        self.read_rows += more.read_rows;
        self.read_bytes += more.read_bytes;
        self.written_rows += more.written_rows;
        self.written_bytes += more.written_bytes;
        self.result_rows += more.result_rows;
    }
}

/// Output of the engine, in the engine's own memory. Freed on drop.
pub(crate) struct ResultChunk {
    library: Library,
    handle: NonNull<c_void>,
}

// SAFETY: a result is a buffer and some numbers with no other reference once it is returned; it
// may be read and freed on any thread.
unsafe impl Send for ResultChunk {}
// SAFETY: reading it changes nothing.
unsafe impl Sync for ResultChunk {}

impl ResultChunk {
    fn new(library: Library, handle: *mut c_void) -> Result<Self, ServerError> {
        let handle = NonNull::new(handle)
            .ok_or_else(|| ServerError::internal("the engine returned no result"))?;
        let chunk = Self { library, handle };
        // SAFETY: the handle is alive; the text is copied before the result is freed.
        match unsafe { text((library.abi.result_error)(handle.as_ptr())) } {
            None => Ok(chunk),
            Some(message) => Err(ServerError::from_engine(&message)),
        }
    }

    pub(crate) fn progress(&self) -> QueryProgress {
        let (abi, handle) = (self.library.abi, self.handle.as_ptr());
        // SAFETY: the handle is alive, and these functions only read numbers from it.
        unsafe {
            QueryProgress {
                read_rows: (abi.result_storage_rows_read)(handle),
                read_bytes: (abi.result_storage_bytes_read)(handle),
                written_rows: (abi.result_rows_written)(handle),
                written_bytes: (abi.result_bytes_written)(handle),
                result_rows: (abi.result_rows_read)(handle),
            }
        }
    }
}

impl AsRef<[u8]> for ResultChunk {
    fn as_ref(&self) -> &[u8] {
        let (abi, handle) = (self.library.abi, self.handle.as_ptr());
        // SAFETY: the handle is alive; both functions only read from it.
        let (data, len) = unsafe { ((abi.result_buffer)(handle), (abi.result_length)(handle)) };
        if data.is_null() || len == 0 {
            return &[];
        }
        // SAFETY: the buffer has this length, is never written again, and lives as long as the
        // result, which the returned slice borrows.
        unsafe { slice::from_raw_parts(data.cast_const().cast(), len) }
    }
}

impl Drop for ResultChunk {
    fn drop(&mut self) {
        // SAFETY: every result is destroyed exactly once, here.
        unsafe { (self.library.abi.destroy_query_result)(self.handle.as_ptr()) };
    }
}

/// Copies a C string; None if it is null.
///
/// # Safety
/// The pointer is null or leads to a NUL-terminated string that does not change during the call.
unsafe fn text(pointer: *const c_char) -> Option<String> {
    if pointer.is_null() {
        return None;
    }
    // SAFETY: the caller's promise.
    let text = unsafe { CStr::from_ptr(pointer) };
    Some(text.to_string_lossy().into_owned())
}

const ABI_SUCCESS: c_int = 0;

/// `chdb_connection`: a pointer to something of the engine.
type ConnectionHandle = *mut c_void;

type WithParams<R> = unsafe extern "C" fn(
    connection: ConnectionHandle,
    query: *const c_char,
    query_len: usize,
    format: *const c_char,
    format_len: usize,
    param_names: *const *const c_char,
    param_name_lens: *const usize,
    param_values: *const *const c_char,
    param_value_lens: *const usize,
    param_count: usize,
) -> R;

macro_rules! abi {
    ($($name:ident: $symbol:literal => $signature:ty;)*) => {
        /// The functions of the library that are used.
        struct Abi {
            $($name: $signature,)*
        }

        impl Abi {
            /// Finds every function, or names the first that is missing.
            fn resolve(library: &libloading::Library) -> Result<Self, &'static str> {
                Ok(Self {
                    // SAFETY: the signature is the one that chdb.h gives for the symbol.
                    $($name: *unsafe { library.get::<$signature>($symbol) }.map_err(|_| $symbol)?,)*
                })
            }
        }
    };
}

abi! {
    set_signal_handlers_enabled: "chdb_set_signal_handlers_enabled" => unsafe extern "C" fn(c_int);
    connect: "chdb_connect" => unsafe extern "C" fn(c_int, *mut *mut c_char) -> *mut ConnectionHandle;
    close_conn: "chdb_close_conn" => unsafe extern "C" fn(*mut ConnectionHandle);
    shutdown: "chdb_shutdown" => unsafe extern "C" fn() -> c_int;
    query_with_params_n: "chdb_query_with_params_n" => WithParams<*mut c_void>;
    stream_query_with_params_n: "chdb_stream_query_with_params_n" => WithParams<*mut c_void>;
    stream_fetch_result: "chdb_stream_fetch_result" => unsafe extern "C" fn(ConnectionHandle, *mut c_void) -> *mut c_void;
    stream_cancel_query: "chdb_stream_cancel_query" => unsafe extern "C" fn(ConnectionHandle, *mut c_void);
    stream_insert_with_params_n: "chdb_stream_insert_with_params_n" => WithParams<*mut c_void>;
    stream_append: "chdb_stream_append" => unsafe extern "C" fn(*mut c_void, *const c_void, usize) -> c_int;
    stream_done: "chdb_stream_done" => unsafe extern "C" fn(*mut c_void) -> *mut c_void;
    stream_cancel_insert: "chdb_stream_cancel_insert" => unsafe extern "C" fn(*mut c_void);
    stream_insert_error: "chdb_stream_insert_error" => unsafe extern "C" fn(*mut c_void) -> *const c_char;
    destroy_insert_stream: "chdb_destroy_insert_stream" => unsafe extern "C" fn(*mut c_void);
    destroy_query_result: "chdb_destroy_query_result" => unsafe extern "C" fn(*mut c_void);
    result_buffer: "chdb_result_buffer" => unsafe extern "C" fn(*mut c_void) -> *mut c_char;
    result_length: "chdb_result_length" => unsafe extern "C" fn(*mut c_void) -> usize;
    result_error: "chdb_result_error" => unsafe extern "C" fn(*mut c_void) -> *const c_char;
    result_rows_read: "chdb_result_rows_read" => unsafe extern "C" fn(*mut c_void) -> u64;
    result_storage_rows_read: "chdb_result_storage_rows_read" => unsafe extern "C" fn(*mut c_void) -> u64;
    result_storage_bytes_read: "chdb_result_storage_bytes_read" => unsafe extern "C" fn(*mut c_void) -> u64;
    result_rows_written: "chdb_result_rows_written" => unsafe extern "C" fn(*mut c_void) -> u64;
    result_bytes_written: "chdb_result_bytes_written" => unsafe extern "C" fn(*mut c_void) -> u64;
}
