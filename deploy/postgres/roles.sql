-- Lets the roles that `otpost migrate` made log in, each with a password of its own. Run by psql, connected to the database otpost as a superuser;
-- run it again to change passwords, and restart the workers after.
--
--   CHALLENGE_PASSWORD=… SMS_PASSWORD=… EMAIL_PASSWORD=… LETTER_PASSWORD=… VERIFICATION_PASSWORD=… ENROLMENT_PASSWORD=… GATEWAY_PASSWORD=… OPERATOR_PASSWORD=… \
--     psql --no-psqlrc --set ON_ERROR_STOP=1 -f roles.sql otpost
--
-- What each role may do stands in the migrations, column by column; nothing is granted here but to connect.

\getenv challenge CHALLENGE_PASSWORD
\getenv sms SMS_PASSWORD
\getenv email EMAIL_PASSWORD
\getenv letter LETTER_PASSWORD
\getenv verification VERIFICATION_PASSWORD
\getenv enrolment ENROLMENT_PASSWORD
\getenv gateway GATEWAY_PASSWORD
\getenv operator OPERATOR_PASSWORD

SET log_statement = 'none'; -- the server's log is no place for passwords
SET password_encryption = 'scram-sha-256';
ALTER ROLE otpost_challenge    LOGIN PASSWORD :'challenge';
ALTER ROLE otpost_sms          LOGIN PASSWORD :'sms';
ALTER ROLE otpost_email        LOGIN PASSWORD :'email';
ALTER ROLE otpost_letter       LOGIN PASSWORD :'letter';
ALTER ROLE otpost_verification LOGIN PASSWORD :'verification';
ALTER ROLE otpost_enrolment    LOGIN PASSWORD :'enrolment';
ALTER ROLE otpost_gateway      LOGIN PASSWORD :'gateway';
ALTER ROLE otpost_operator     LOGIN PASSWORD :'operator';
GRANT CONNECT ON DATABASE otpost TO otpost_challenge, otpost_sms, otpost_email, otpost_letter, otpost_verification, otpost_enrolment,
  otpost_gateway, otpost_operator;
