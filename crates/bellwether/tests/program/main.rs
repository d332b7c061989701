//! The real binary, used as its users use it: started, configured, loaded, killed, asked by real trackers in a real browser.
//!
//! [`command_line`] is what operators see, [`durability`] what a 202 is worth, [`many`] what it is where several servers share a
//! database, [`counting`] how these count together, [`roles`] how they share the work, [`faults`] what endpoints do wrong,
//! [`plausible`] what an existing Plausible sets off, [`hosted`] what its hosted service does, [`storage`] what becomes of a
//! database that cannot be written, [`import`] how one moves to PostgreSQL, [`operation`] what monitoring asks, [`browser`] what
//! trackers and receivers see, [`documentation`] whether its samples work, [`deploy`] whether the files for operators name what
//! is there; [`architecture`] holds the crates to who may import whom. It is one program, since several would each take as long
//! to link.

#[cfg(test)]
mod architecture;
#[cfg(test)]
mod browser;
#[cfg(test)]
mod command_line;
#[cfg(test)]
mod counting;
#[cfg(test)]
mod deploy;
#[cfg(test)]
mod documentation;
#[cfg(test)]
mod durability;
#[cfg(test)]
mod faults;
#[cfg(test)]
mod hosted;
#[cfg(test)]
mod import;
#[cfg(test)]
mod many;
#[cfg(test)]
mod operation;
#[cfg(test)]
mod plausible;
#[cfg(test)]
mod roles;
#[cfg(test)]
mod storage;
#[cfg(test)]
mod support;
