// SPDX-License-Identifier: MIT
//
// Rust threads, std only: the first post of each, and posts from the Drop of a thread_local, which
// runs when everything else of the thread is over. The host is scene.c.

use std::cell::Cell;
use std::os::raw::{c_int, c_long, c_uint};
use std::thread;

extern "C" {
    fn scene_open(flags: c_uint);
    fn scene_submit(count: c_uint);
    fn scene_signal(n: c_uint) -> c_int;
    fn scene_expect(retired: c_uint);
    fn scene_close();
    fn scene_allocated() -> c_long;
    fn scene_nothing_left();
    fn scene_slow() -> bool;
    fn fq_thread_register() -> c_int;
    fn fq_thread_unregister() -> c_int;
}

const AT_ONCE: u32 = 8;

struct Poster {
    number: Cell<u32>,
    registered: Cell<bool>,
}

impl Drop for Poster {
    fn drop(&mut self) {
        assert_eq!(unsafe { scene_signal(self.number.get()) }, 0);
        if self.registered.get() {
            assert_eq!(unsafe { fq_thread_unregister() }, 0);
        }
    }
}

thread_local! {
    static POSTER: Poster = const { Poster { number: Cell::new(0), registered: Cell::new(false) } };
}

fn post(number: u32) {
    POSTER.with(|poster| {
        poster.number.set(number);
        if number & 1 != 0 {
            assert_eq!(unsafe { fq_thread_register() }, 0);
            poster.registered.set(true);
        }
    });
    if number & 2 == 0 {
        assert_eq!(unsafe { scene_signal(number) }, 0);
    }
}

fn churn(begin: u32, count: u32) -> u32 {
    let mut submitted = begin;
    while submitted < begin + count {
        unsafe { scene_submit(AT_ONCE) };
        let threads: Vec<_> = (1..=AT_ONCE)
            .map(|i| thread::spawn(move || post(submitted + i)))
            .collect();
        submitted += AT_ONCE;
        unsafe { scene_expect(submitted) };
        for thread in threads {
            thread.join().unwrap();
        }
    }
    unsafe { scene_nothing_left() };
    submitted
}

fn main() {
    let count = if unsafe { scene_slow() } { 80 } else { 1000 };

    unsafe { scene_open(0) };
    let submitted = churn(0, count / 2);
    let before = unsafe { scene_allocated() };
    churn(submitted, count);
    assert_eq!(unsafe { scene_allocated() }, before, "allocations left behind");
    unsafe {
        scene_close();
        scene_nothing_left();
    }
    println!("ok");
}
