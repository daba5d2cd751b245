macro_rules! contract { ($m:ident) => {} }
