//! sluice/handler.h in Rust: its structs as C lays them out, and a face on them in which nothing is unsafe.
//!
//! A handler is a type that implements `Handler`, named by `sluice_handler!` at the top of its crate. It lives as long as its
//! process. A panic is caught where C begins, and is a retry; nothing unwinds into the worker daemon.
#![allow(dead_code)]

use std::any::Any;
use std::marker::PhantomData;
use std::os::raw::{c_char, c_int, c_void};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::ptr::null_mut;
use std::time::Duration;
use std::{ffi::CStr, ffi::CString, mem, slice};

// ---- what a handler is written with

pub enum Verdict {
    /// Done.
    Ack,
    /// A failure: again, after this time or by the group's backoff.
    Retry { after: Option<Duration>, error: String },
    /// To the dead letters at once. The reason is a short word that groups them.
    Park { reason: String, error: String },
}

pub trait Handler: Sized + Send + Sync {
    /// Once per process. What is wrong with the configuration is said here.
    fn new(host: &Host) -> Result<Self, String>;
    /// One task.
    fn handle(&self, task: &Task) -> Verdict;
}

#[derive(Clone, Copy)]
pub enum Level {
    Debug = 0,
    Info = 1,
    Warn = 2,
    Error = 3,
}

/// The process that the handler runs in.
pub struct Host<'a> {
    raw: &'a RawHost,
}

impl Host<'_> {
    /// The `config:` of the daemon's file as JSON.
    pub fn config(&self) -> &str {
        text(self.raw.config)
    }

    /// The handler's name in the daemon's file.
    pub fn name(&self) -> &str {
        text(self.raw.name)
    }

    /// A line in the daemon's log.
    pub fn log(&self, level: Level, line: &str) {
        type Log = unsafe extern "C" fn(*const RawHost, c_int, *const c_char);
        if let (Some(log), Ok(line)) = (self.function::<Log>("log\0"), CString::new(line)) {
            unsafe { log(self.raw, level as c_int, line.as_ptr()) }
        }
    }

    /// A function of the host by its name, which ends with a zero. F must be its type.
    fn function<F: Copy>(&self, name: &str) -> Option<F> {
        assert!(name.ends_with('\0') && mem::size_of::<F>() == mem::size_of::<*mut c_void>());
        let found = unsafe { (self.raw.function)(self.raw, name.as_ptr().cast()) };
        if found.is_null() {
            None
        } else {
            Some(unsafe { mem::transmute_copy(&found) })
        }
    }
}

/// One message to work on. All of it is lent until `handle` returns.
pub struct Task<'a> {
    pub host: Host<'a>,
    raw: &'a RawTask,
}

impl Task<'_> {
    pub fn topic(&self) -> &str {
        text(self.raw.topic)
    }

    pub fn partition(&self) -> u32 {
        self.raw.partition
    }

    pub fn offset(&self) -> u64 {
        self.raw.offset
    }

    /// 1 is the first.
    pub fn attempt(&self) -> u32 {
        self.raw.attempt
    }

    /// The same in every attempt.
    pub fn idempotency_key(&self) -> &str {
        text(self.raw.idempotency_key)
    }

    pub fn key(&self) -> Option<&[u8]> {
        self.raw.key.bytes()
    }

    /// An absent value is empty.
    pub fn value(&self) -> &[u8] {
        self.raw.value.bytes().unwrap_or(&[])
    }

    pub fn header(&self, name: &str) -> Option<&[u8]> {
        type Header = unsafe extern "C" fn(*const RawHost, *const RawTask, *const c_char) -> Slice<'static>;
        let (header, name) = (self.host.function::<Header>("header\0")?, CString::new(name).ok()?);
        unsafe { header(self.host.raw, self.raw, name.as_ptr()) }.bytes()
    }

    /// Whether the task should stop: long loops ask now and then.
    pub fn cancelled(&self) -> bool {
        type Cancelled = unsafe extern "C" fn(*const RawHost, *const RawTask) -> bool;
        match self.host.function::<Cancelled>("cancelled\0") {
            Some(cancelled) => unsafe { cancelled(self.host.raw, self.raw) },
            None => false,
        }
    }
}

/// Makes a type the crate's handler: `sluice_handler!(Verify, "verify", "1.0.0");`
macro_rules! sluice_handler {
    ($type:ty, $name:literal, $version:literal) => {
        #[no_mangle]
        #[allow(non_upper_case_globals)]
        pub static sluice_handler: $crate::sluice::RawHandler =
            $crate::sluice::describe::<$type>(concat!($name, "\0"), concat!($version, "\0"));
    };
}

// ---- the structs of handler.h, field by field

#[repr(C)]
#[derive(Clone, Copy)]
struct Slice<'a> {
    data: *const u8,
    size: usize,
    lent: PhantomData<&'a [u8]>,
}

impl<'a> Slice<'a> {
    fn bytes(&self) -> Option<&'a [u8]> {
        if self.data.is_null() {
            None
        } else {
            Some(unsafe { slice::from_raw_parts(self.data, self.size) })
        }
    }
}

#[repr(C)]
pub struct RawTask {
    size: usize,
    topic: *const c_char,
    group: *const c_char,
    partition: u32,
    attempt: u32,
    offset: u64,
    key: Slice<'static>,
    value: Slice<'static>,
    timestamp_ms: u64,
    append_time_ms: u64,
    idempotency_key: *const c_char,
    host_data: *const c_void,
}

#[repr(C)]
pub struct RawVerdict {
    size: usize,
    delay_ms: u32,
    has_delay: bool,
    reason: [c_char; 128],
    error: [c_char; 384],
}

#[repr(C)]
pub struct RawHost {
    size: usize,
    function: unsafe extern "C" fn(*const RawHost, *const c_char) -> *mut c_void,
    config: *const c_char,
    name: *const c_char,
    host_data: *mut c_void,
}

type ProcessInit = unsafe extern "C" fn(*const RawHost, *mut *mut c_void, *mut c_char, usize) -> c_int;
type ProcessFini = unsafe extern "C" fn(*const RawHost, *mut c_void);
type ThreadInit = unsafe extern "C" fn(*const RawHost, *mut c_void, *mut *mut c_void, *mut c_char, usize) -> c_int;
type ThreadFini = unsafe extern "C" fn(*const RawHost, *mut c_void, *mut c_void);
type Handle = unsafe extern "C" fn(*const RawHost, *mut c_void, *mut c_void, *const RawTask, *mut RawVerdict) -> c_int;
type HandleBatch = unsafe extern "C" fn(
    *const RawHost,
    *mut c_void,
    *mut c_void,
    *const RawTask,
    usize,
    *mut c_int,
    *mut RawVerdict,
);
type Reconfigure = unsafe extern "C" fn(*const RawHost, *mut c_void, *mut c_char, usize) -> c_int;

#[repr(C)]
pub struct RawHandler {
    size: usize,
    abi: u32,
    flags: u32,
    name: *const u8,
    version: *const u8,
    process_init: Option<ProcessInit>,
    process_fini: Option<ProcessFini>,
    thread_init: Option<ThreadInit>,
    thread_fini: Option<ThreadFini>,
    handle: Option<Handle>,
    handle_batch: Option<HandleBatch>,
    reconfigure: Option<Reconfigure>,
}

/// It points at what never changes.
unsafe impl Sync for RawHandler {}

/// Both texts end with a zero.
pub const fn describe<H: Handler>(name: &'static str, version: &'static str) -> RawHandler {
    RawHandler {
        size: mem::size_of::<RawHandler>(),
        abi: 1,
        flags: 0,
        name: name.as_ptr(),
        version: version.as_ptr(),
        process_init: Some(process_init::<H>),
        process_fini: Some(process_fini::<H>),
        thread_init: None,
        thread_fini: None,
        handle: Some(handle::<H>),
        handle_batch: None,
        reconfigure: None,
    }
}

// ---- the border: C on the other side

unsafe extern "C" fn process_init<H: Handler>(
    host: *const RawHost,
    process: *mut *mut c_void,
    error: *mut c_char,
    size: usize,
) -> c_int {
    *process = null_mut();
    let made = catch_unwind(AssertUnwindSafe(|| H::new(&Host { raw: &*host })));
    match made.unwrap_or_else(|panic| Err(words_of(panic))) {
        Ok(handler) => {
            *process = Box::into_raw(Box::new(handler)).cast();
            0
        }
        Err(why) => {
            put_text(slice::from_raw_parts_mut(error, size), &why);
            1
        }
    }
}

unsafe extern "C" fn process_fini<H: Handler>(_host: *const RawHost, process: *mut c_void) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(Box::from_raw(process.cast::<H>()))));
}

unsafe extern "C" fn handle<H: Handler>(
    host: *const RawHost,
    process: *mut c_void,
    _thread: *mut c_void,
    task: *const RawTask,
    verdict: *mut RawVerdict,
) -> c_int {
    let handler = &*process.cast::<H>();
    let task = Task { host: Host { raw: &*host }, raw: &*task };
    let told = catch_unwind(AssertUnwindSafe(|| handler.handle(&task)));
    let verdict = &mut *verdict;
    match told.unwrap_or_else(|panic| Verdict::Retry { after: None, error: words_of(panic) }) {
        Verdict::Ack => 0,
        Verdict::Retry { after, error } => {
            put_text(&mut verdict.error, &error);
            verdict.has_delay = after.is_some();
            verdict.delay_ms = after.map_or(0, |d| d.as_millis().min(u32::MAX as u128 - 1) as u32);
            1
        }
        Verdict::Park { reason, error } => {
            put_text(&mut verdict.reason, &reason);
            put_text(&mut verdict.error, &error);
            2
        }
    }
}

fn words_of(panic: Box<dyn Any + Send>) -> String {
    let words = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    format!("panicked: {}", words.unwrap_or("without a word"))
}

/// A string of C's; empty if there is none, or if it is not UTF-8.
fn text<'a>(at: *const c_char) -> &'a str {
    if at.is_null() {
        return "";
    }
    unsafe { CStr::from_ptr(at) }.to_str().unwrap_or("")
}

/// As much of it as there is room for, cut between two characters, with a zero behind it.
fn put_text(to: &mut [c_char], from: &str) {
    let mut size = from.len().min(to.len() - 1);
    while !from.is_char_boundary(size) {
        size -= 1;
    }
    for (slot, byte) in to.iter_mut().zip(from.as_bytes()[..size].iter().chain(&[0])) {
        *slot = *byte as c_char;
    }
}
