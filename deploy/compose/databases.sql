-- The databases of the service form; the registry needs the extension.
CREATE DATABASE central;
CREATE DATABASE apdb;
CREATE DATABASE ledger;
\connect central
CREATE EXTENSION IF NOT EXISTS btree_gist;
