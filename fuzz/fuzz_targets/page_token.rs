//! The query of a list: a page token, or whatever is sent in its place. One that
//! is taken says the same when it is written and read again.
#![no_main]

use dropshot::{PaginationParams, WhichPage};
use libfuzzer_sys::fuzz_target;
use nexus::http::pagination::{
    Everything, IdPlace, IdSortMode, NameOrIdPlace, NameOrIdSortMode, Scan,
    TimePlace, TimeSortMode, Token,
};
use nexus::http::types::ProjectSelector;

type Params<W, M, P> = PaginationParams<Scan<W, M>, Token<W, P>>;

fuzz_target!(|query: &[u8]| {
    let read = serde_urlencoded::from_bytes::<
        Params<ProjectSelector, NameOrIdSortMode, NameOrIdPlace>,
    >(query);
    if let Ok(PaginationParams { page: WhichPage::Next(token), .. }) = read {
        let text = serde_json::to_string(&token).unwrap();
        let again: Token<ProjectSelector, NameOrIdPlace> =
            serde_json::from_str(&text).unwrap();
        assert_eq!(text, serde_json::to_string(&again).unwrap());
    }
    let _ = serde_urlencoded::from_bytes::<
        Params<Everything, TimeSortMode, TimePlace>,
    >(query);
    let _ = serde_urlencoded::from_bytes::<
        Params<Everything, IdSortMode, IdPlace>,
    >(query);
});
