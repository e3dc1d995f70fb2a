cpdef parse_mail_params(str text)
