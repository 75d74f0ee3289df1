-- luacheck: no max line length
-- Personal data and secrets, for perigee.filter.pack "pii" (all kinds) or "pii.card", "pii.id", ... (one).
--
-- A plain Lua table: copy this file into a folder of yours, change it, and hand the folder over:
--    perigee.filter.pack("pii", { folder = "app/packs" })
-- kinds: in this order. regex: libpcre2, on text whose full-width forms were made half-width; `<name>` stands for
-- parts.name. check: a function of perigee.filter.checks that sees the match and may refuse it. hint: what to match and
-- what not. What is told apart by a checksum is checked by it, so that order numbers stay what they are.
return {
   category = "pii",
   title = "personal data and secrets",
   parts = {
      -- A number begins or ends here: no digit, no fraction, no longer name around it.
      from = [[(?<![\d._A-Za-z-])]],
      to = [[(?![\d_A-Za-z])(?![.-]\d)(?!,\d{3}\b)]],
      byte = [[(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)]],
      quad = [[(?: ?[A-Z0-9]{4})]],
      area = [[(?:10|2\d|[3-9]\d\d)]], -- of China, without the 0
   },
   kinds = {
      {
         name = "card", check = "card",
         hint = "payment cards of the known schemes (12 to 19 digits, in groups or not) whose Luhn digit is right; "
            .. "not ISBNs, order numbers, Chinese ID numbers",
         regex = {
            [[<from>(?:4\d{3}|5[0-8]\d\d|2[2-7]\d\d|35\d\d|6\d{3}|81\d\d|9792)([ -]?)]]
               .. [[\d{4}\1\d{4}\1\d{4}(?:\1\d{3})?<to>]],
            [[<from>3[47]\d\d([ -]?)(?:\d{6}\1\d{5}|\d{4}\1\d{4}\1\d{3})<to>]],
            [[<from>3[0689]\d\d([ -]?)\d{6}\1\d{4}<to>]],
            [[<from>(?:4\d{12}|(?:62|5[06-8]|6\d)\d{15,16}|(?:5[06-8]|6\d)\d{10,13})<to>]],
         },
      },
      {
         name = "id", check = "resident_id",
         hint = "Chinese resident ID numbers of 18 digits: province, date of birth and check digit (ISO 7064, MOD 11-2) "
            .. "must be right; not the old ones of 15 digits, which have nothing to check",
         regex = {
            [[<from>[1-9]\d{5} ?(?:18|19|20)\d\d ?(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01]) ?\d{3}[\dXx]<to>]],
         },
      },
      {
         name = "iban", check = "iban",
         hint = "account numbers of the IBAN registry, in capitals: each country's own length, remainder 1 modulo 97",
         regex = { -- by length
            [[<from>NO\d\d<quad>{2} ?[A-Z0-9]{3}<to>]],
            [[<from>BE\d\d<quad>{3}<to>]],
            [[<from>(?:DK|FI|FK|FO|GL|NL|SD)\d\d<quad>{3} ?[A-Z0-9]{2}<to>]],
            [[<from>(?:MK|SI)\d\d<quad>{3} ?[A-Z0-9]{3}<to>]],
            [[<from>(?:AT|BA|EE|KZ|LT|LU|MN|XK)\d\d<quad>{4}<to>]],
            [[<from>(?:CH|HR|LI|LV)\d\d<quad>{4} ?[A-Z0-9]<to>]],
            [[<from>(?:BG|BH|CR|DE|GB|GE|IE|ME|RS|VA)\d\d<quad>{4} ?[A-Z0-9]{2}<to>]],
            [[<from>(?:AE|GI|IL|IQ|OM|SO|TL)\d\d<quad>{4} ?[A-Z0-9]{3}<to>]],
            [[<from>(?:AD|CZ|ES|MD|PK|RO|SA|SE|SK|TN|VG)\d\d<quad>{5}<to>]],
            [[<from>(?:LY|PT|ST)\d\d<quad>{5} ?[A-Z0-9]<to>]],
            [[<from>(?:IS|TR)\d\d<quad>{5} ?[A-Z0-9]{2}<to>]],
            [[<from>(?:BI|DJ|FR|GR|IT|MC|MR|SM)\d\d<quad>{5} ?[A-Z0-9]{3}<to>]],
            [[<from>(?:AL|AZ|BY|CY|DO|GT|HN|HU|LB|NI|PL|SV)\d\d<quad>{6}<to>]],
            [[<from>(?:BR|EG|PS|QA|UA)\d\d<quad>{6} ?[A-Z0-9]<to>]],
            [[<from>(?:JO|KW|MU|YE)\d\d<quad>{6} ?[A-Z0-9]{2}<to>]],
            [[<from>(?:MT|SC)\d\d<quad>{6} ?[A-Z0-9]{3}<to>]],
            [[<from>(?:LC\d\d<quad>{7}|RU\d\d<quad>{7} ?[A-Z0-9])<to>]],
         },
      },
      {
         name = "phone", check = "phone",
         hint = "mobile and fixed lines of China, international numbers with +, the written forms of North America, "
            .. "Britain and France; not hotlines (400, 800, 110 ...), not runs of digits without a form of their own",
         regex = {
            [[<from>(?:(?:\+|00)?86[ -]?)?1[3-9]\d([ -]?)\d{4}\1\d{4}<to>]],
            [[<from>(?:\+86[ -]?\(?0?<area>\)?[ -]?|\(0<area>\) ?|0<area>[- ])[2-8]\d{2,3}[ -]?\d{4}<to>]],
            [[<from>\+[1-9]\d{0,2}(?:[ .-]?(?:\(0\))?\(?\d{1,4}\)?){2,6}<to>]],
            [[<from>(?:1[ .-])?(?:\([2-9]\d\d\) ?|[2-9]\d\d[.-])[2-9]\d\d[ .-]\d{4}<to>]],
            [[<from>0(?:20 \d{4} \d{4}|1\d\d \d{3} \d{4}|1\d{3} \d{6}|7\d{3} \d{3} ?\d{3})<to>(?! \d)]],
            [[<from>(?<!\d )0[1-79](?:([ .])\d\d)(?:\1\d\d){3}<to>(?! \d)]],
         },
      },
      {
         name = "email", check = "email",
         hint = "e-mail addresses; not git@host, package@version, file@2x.png",
         regex = {
            [[(?<![A-Za-z0-9._%+'-])[A-Za-z0-9_][A-Za-z0-9._%+'-]{0,63}@]]
               .. [[(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,8}[A-Za-z]{2,24}(?![A-Za-z0-9-])]],
         },
      },
      {
         name = "ip", check = "address",
         hint = "public IPv4 and IPv6 addresses; not loopback, private, link-local and multicast ones, not versions",
         regex = {
            [[(?<![Vv]ersion )(?<!release )(?<!firmware )(?<!build )(?<!section )(?<!版本)(?<!版本号)(?<!版本号 )]]
               .. [[<from>(?:<byte>\.){3}<byte><to>(?! ?版本| version)]],
            [[(?<![0-9A-Za-z:.])[23][0-9A-Fa-f]{3}:(?:[0-9A-Fa-f]{0,4}:){1,6}[0-9A-Fa-f]{0,4}(?![0-9A-Za-z:])]],
         },
      },
      {
         name = "secret", check = "secret",
         hint = "keys and tokens that are known by their prefix, private keys (the line that begins them), JSON web "
            .. "tokens, and what is assigned to a password or key if it looks drawn by chance",
         regex = {
            [[\b(?:AKIA|ASIA|ABIA|ACCA)[0-9A-Z]{16}\b]],
            [[\bgh[pousr]_[A-Za-z0-9]{36,255}\b]],
            [[\bgithub_pat_[A-Za-z0-9_]{60,120}\b]],
            [[\bgl(?:pat|ptt|dt|rt)-[A-Za-z0-9_-]{20,64}(?![A-Za-z0-9_-])]],
            [[\bxox[abeoprs]-[A-Za-z0-9-]{20,255}(?![A-Za-z0-9-])]],
            [[\bAIza[0-9A-Za-z_-]{35}(?![0-9A-Za-z_-])]],
            [[\b[sr]k_(?:live|test)_[0-9A-Za-z]{16,255}\b]],
            [[\b(?:npm_[A-Za-z0-9]{36}|hf_[A-Za-z0-9]{34}|pypi-[A-Za-z0-9_-]{60,255})(?![A-Za-z0-9_-])]],
            [[(?<![A-Za-z0-9_-])sk-[A-Za-z0-9_-]{20,255}(?![A-Za-z0-9_-])]],
            [[-----BEGIN (?:[A-Z0-9]{1,20} ){0,3}PRIVATE KEY(?: BLOCK)?-----]],
            [[\beyJ[A-Za-z0-9_-]{8,2000}\.eyJ[A-Za-z0-9_-]{8,4000}\.[A-Za-z0-9_-]{16,1000}(?![A-Za-z0-9_-])]],
            [[(?i:passw(?:or)?d|passphrase|pwd|secret|secret[_-]?(?:access[_-]?)?key|api[_-]?key|access[_-]?(?:key|token)|]]
               .. [[auth[_-]?token|client[_-]?secret|密码|口令|密钥)["']?\s{0,2}(?::=|=>|=|:|是|为)\s{0,2}["']?]]
               .. [=[[^\s"'<>(){}\[\],;$\x{4e00}-\x{9fff}]{8,128}]=],
         },
      },
   },
}
