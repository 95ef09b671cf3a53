//! The root server on the host: with a kernel that stands in for the real one (`fake`), and files made by hand
//! (`files`).

mod archive;
mod buddy;
mod contexts;
mod ends;
mod fake;
mod files;
mod hostile;
mod program;
mod server;
