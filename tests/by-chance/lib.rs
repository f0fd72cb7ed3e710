//! Stands for the fuzzer's library where there is no fuzzer: it makes of a target
//! of `fuzz/` a function that is given bytes.

pub use arbitrary;

/// Makes a function `once` of a target.
#[macro_export]
macro_rules! fuzz_target {
    (|$input:ident: $of:ty| $body:block) => {
        /// Tries what these bytes stand for.
        pub(crate) fn once(bytes: &[u8]) {
            use $crate::arbitrary::{Arbitrary, Unstructured};
            let bytes = Unstructured::new(bytes);
            let Ok($input) = <$of as Arbitrary>::arbitrary_take_rest(bytes)
            else {
                return;
            };
            $body
        }
    };
}
